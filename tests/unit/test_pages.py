"""The project's pages name only what exists: files, tests, and settings."""

import re

import pytest

from feedback_listener.settings import ListenerSettings
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from tests.cluster import ROOT
from worker.settings import WorkerSettings

PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "dashboards/runbooks.md", "infra/model/README.md")
SECTIONS = (KafkaSettings, TopicSettings, LogSettings, WorkerSettings, ListenerSettings)
TOP_LEVEL = "streamgauge|worker|producer|feedback_listener|tests|dashboards|infra"


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


def test_settings_that_the_readme_names_exist() -> None:
    """A setting that was renamed is renamed there too."""
    known = {
        f"{section.model_config['env_prefix']}{name}".upper() for section in SECTIONS for name in section.model_fields
    }
    named = set(re.findall(r"STREAMGAUGE_[A-Z_]+[A-Z]", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named
    assert named <= known
