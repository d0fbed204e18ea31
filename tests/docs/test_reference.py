"""The reference pages: as the code generates them, and with words for everything."""

import re
from pathlib import Path

import pytest
import yaml

from docs.build import FOLDER, generated
from docs.generators.settings import SECTIONS, name_of
from tests.cluster import ROOT


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_what_is_committed_is_what_is_generated(path: Path) -> None:
    """`python -m docs.build` changes nothing."""
    assert path.read_text(encoding="utf-8") == generated()[path]


def test_every_setting_is_explained() -> None:
    """Each field has a description: the page shows nothing else of what it means."""
    without = [
        name_of(section, name)
        for section in SECTIONS.values()
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert without == []


def test_every_alert_has_its_runbook() -> None:
    """The link leads to a heading."""
    headings = set(re.findall(r"^## (\w+)$", (ROOT / "dashboards" / "runbooks.md").read_text(), re.MULTILINE))
    linked = re.findall(
        r"\[(Streamgauge\w+)]\(\.\./\.\./dashboards/runbooks", (FOLDER / "reference" / "alerts.md").read_text()
    )
    assert linked
    assert set(linked) <= headings


def test_every_page_is_in_the_sites_table_of_contents() -> None:
    """A page that nobody finds is read by nobody."""
    contents = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*.md")]
    assert yaml.safe_load(contents)["docs_dir"] == "docs"
    assert [page for page in pages if f"{page}\n" not in contents] == []
