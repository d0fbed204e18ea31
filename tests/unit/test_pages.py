"""The project's pages name only what exists: files, tests, and settings."""

import re
import tomllib

import pytest

from docs.generators.settings import SECTIONS, name_of
from tests.cluster import ROOT

PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "dashboards/runbooks.md",
    "infra/doctor.md",
    "infra/model/README.md",
    "infra/secured.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))),
)
TOP_LEVEL = "streamgauge|worker|producer|feedback_listener|tests|dashboards|contracts|docs|infra"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_tests_that_a_page_names_exist(page: str) -> None:
    """A link leads somewhere; a path in code style is a file or a folder; a test that is named is in its file."""
    file = ROOT / page
    text = file.read_text(encoding="utf-8")
    links = [file.parent / link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    named = re.findall(rf"`((?:{TOP_LEVEL})/[\w./-]*)(?:::(\w+))?`", text)
    missing = [path for path in (*links, *(ROOT / path for path, _test in named)) if not path.exists()]
    assert not missing
    for path, test in named:
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_exist(page: str) -> None:
    """A setting that was renamed is renamed there too."""
    known = {name_of(section, name) for section in SECTIONS.values() for name in section.model_fields}
    named = set(re.findall(r"STREAMGAUGE_[A-Z_]+[A-Z]\b(?!_)", (ROOT / page).read_text(encoding="utf-8")))
    assert named <= known


def test_extras_are_installed_from_the_projects_folder() -> None:
    """A page or a message names an extra that exists; and no index that has no such project, or another's."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    folders = ("docs", "feedback_listener", "infra", "producer", "streamgauge", "worker")
    files = [ROOT / "README.md", *(path for name in folders for path in (ROOT / name).rglob("*"))]
    said = [file.read_text(encoding="utf-8") for file in files if file.suffix in {".md", ".py"}]
    named = [found for text in said for found in re.findall(r"pip install '([\w.]+)\[([\w,{}]+)\]'", text)]
    assert {where for where, _extra in named} == {"."}
    assert {extra for _where, several in named for extra in several.split(",")} - {"{extra}"} <= extras.keys()
