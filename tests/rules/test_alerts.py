"""Alerts are complete: severity, a summary with the value, a runbook, and tests of firing and of staying quiet."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from feedback_listener.settings import ListenerSettings
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from worker.settings import WorkerSettings

TESTS = Path(__file__).parent
DASHBOARDS = TESTS.parents[1] / "dashboards"
RUNBOOKS = (DASHBOARDS / "runbooks.md").read_text()
PAGE = (DASHBOARDS / "consoles" / "runbooks.html").read_text()
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DASHBOARDS / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
EXPECTATIONS = [
    expectation
    for test in yaml.safe_load((TESTS / "alerts.test.yml").read_text())["tests"]
    for expectation in test.get("alert_rule_test", [])
]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_how_bad_it_is_and_what_to_do(name: str) -> None:
    """A severity that Alertmanager routes by, the value in the summary, a section of the runbooks."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "$value" in rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"{{{{ $externalURL }}}}/consoles/runbooks.html#{name.lower()}"
    assert f'<section id="{name.lower()}">\n<h2>{name}</h2>' in PAGE
    section = RUNBOOKS.partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert "**Means:**" in section
    assert re.search(r"\*\*(Look at, do:|Do:)\*\*", section)


def test_the_page_of_runbooks_is_no_template() -> None:
    """Prometheus would carry out what stands in double braces; a link on the page leads to the page."""
    assert "{{" not in PAGE
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', PAGE))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_firing_and_quiet(name: str) -> None:
    """promtool's tests expect it at some time, and expect its absence at another."""
    own = [expectation["exp_alerts"] for expectation in EXPECTATIONS if expectation["alertname"] == name]
    assert any(own)
    assert not all(own)


def test_runbooks_speak_of_what_exists() -> None:
    """Sections are named after alerts, and the settings they name are settings."""
    assert re.findall(r"^## (\S+)$", RUNBOOKS, re.MULTILINE) == [*dict.fromkeys(ALERTS)]
    known = {
        f"{settings.model_config['env_prefix']}{name}".upper()
        for settings in (KafkaSettings, TopicSettings, LogSettings, WorkerSettings, ListenerSettings)
        for name in settings.model_fields
    }
    named = set(re.findall(r"STREAMGAUGE_[A-Z_]+", RUNBOOKS))
    assert named
    assert named <= known
