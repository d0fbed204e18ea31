"""The dashboards as a linter sees them: complete, valid, true to what is exported, and as the code generates them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.build import FOLDER, generated
from dashboards.colors import SEVERITIES
from dashboards.metrics_table import exported_names
from tests.dashboards.reading import BOARDS, PANELS, Panel, expressions, flat, names_in, substituted

RULES = [
    rule
    for path in sorted((FOLDER / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}
PROMETHEUS_OWN = {"up", "ALERTS"}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=str)


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_what_is_committed_is_what_is_generated(path: Path) -> None:
    """`python -m dashboards.build` changes nothing."""
    assert path.read_text() == generated()[path]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_is_live_and_not_to_be_edited(board: dict[str, Any]) -> None:
    """Refreshed with each scrape, edited in code alone; ids and titles are unique; its variables are used."""
    assert (board["refresh"], board["editable"], board["schemaVersion"] <= 42) == ("5s", False, True)
    own = flat(board)
    assert len({panel["id"] for panel in own}) == len(own)
    panels = [panel["title"] for panel in own if panel["type"] != "row"]
    assert len(set(panels)) == len(panels)
    variables = {variable["name"] for variable in board["templating"].get("list", [])}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(board["panels"])))
    assert used == variables


@pytest.mark.parametrize("board", [board for board in BOARDS if board["templating"]], ids=lambda board: board["uid"])
def test_alerts_are_marked_on_the_graphs(board: dict[str, Any]) -> None:
    """Wherever there are graphs, by queries that take in each alert of ours, a colour a severity."""
    severities = set()
    for marks in board["annotations"]["list"]:
        assert (marks["enable"], marks["datasource"]["uid"]) == (True, "${datasource}")
        matched = re.search(r'ALERTS\{alertname=~"(.+?)", alertstate="firing", severity="(.+)"}', marks["expr"])
        assert matched
        assert all(re.fullmatch(matched[1], alert) for alert in ALERTS)
        assert marks["iconColor"] == SEVERITIES[matched[2]]
        severities.add(matched[2])
    assert severities == {rule["labels"]["severity"] for rule in RULES if "alert" in rule}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    """Each has its own place on the grid of 24 columns, also when a row is opened."""
    for panels in (board["panels"], *(row["panels"] for row in board["panels"] if row.get("panels"))):
        cells: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert own.isdisjoint(cells), panel["title"]
            assert max(x for x, _y in own) < 24
            cells |= own


@each_panel
def test_a_panel_explains_itself(panel: Panel) -> None:
    """A description, a unit, words for when there is nothing to show, and the datasource that was chosen."""
    assert panel.json["description"].endswith(".")
    if panel.is_text:
        return
    defaults = panel.json["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel.json["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert expressions(panel)


@each_panel
def test_nothing_is_zero_because_nobody_answers(panel: Panel) -> None:
    """0 is added only where somebody who would know answers, or where Prometheus itself counts who does; a number of
    now is asked for now, since the last one of a range may be old.
    """
    for target in panel.json.get("targets", []):
        assert target.get("instant", False) is (panel.json["type"] in ("stat", "bargauge", "table"))
        if "vector(0)" in target["expr"]:
            counts = re.match(r"max\(count\((up|ALERTS|streamgauge_listener_ready)\b", target["expr"])
            assert counts or re.search(r"or vector\(0\)\) and on \(\) count\(", target["expr"])


@each_panel
def test_a_panel_links_to_runbooks_that_exist(panel: Panel) -> None:
    """A link to a runbook names an alert, and leads to the dashboard that holds it."""
    for link in panel.json.get("links", []):
        assert link["title"].removeprefix("Runbook: ") in ALERTS
        assert link["url"] == "/d/streamgauge-runbooks"


@each_panel
def test_counters_are_rated(panel: Panel) -> None:
    """A counter is shown as a rate, over an interval that Grafana fits to the scrapes; an increase over a minute."""
    for expr in expressions(panel):
        for counter in re.finditer(r"\b\w+(_total|_bucket)\b", expr):
            assert re.search(r"(rate|increase)\($", expr[: counter.start()]), expr
        assert set(re.findall(r"rate\([^[]*\[([^]]+)]", expr)) <= {"$__rate_interval"}
        assert set(re.findall(r"increase\([^[]*\[([^]]+)]", expr)) <= {"$__rate_interval", "1m"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_every_query_is_valid(tmp_path: Path) -> None:
    """Prometheus parses each expression."""
    exprs = [substituted(expr) for panel in PANELS for expr in expressions(panel)]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "queries.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(exprs)} rules found" in done.stdout


def test_every_metric_that_is_read_exists() -> None:
    """What dashboards and rules read is exported by a service, recorded by a rule, or Prometheus' own."""
    exprs = [expr for panel in PANELS for expr in expressions(panel)] + [rule["expr"] for rule in RULES]
    queries = [variable["query"] for board in BOARDS for variable in board["templating"].get("list", [])]
    read = names_in([*exprs, *(query for query in queries if "label_values" in str(query))])
    assert len(read) > 60
    assert read - exported_names() - RECORDED - PROMETHEUS_OWN == set()


def test_every_alert_is_in_sight() -> None:
    """Each alert's runbook is linked from a panel, and the panels that runbooks name exist."""
    linked = {link["title"].removeprefix("Runbook: ") for panel in PANELS for link in panel.json.get("links", [])}
    titles = {panel.json["title"] for panel in PANELS} | {board["title"] for board in BOARDS}
    named = set(re.findall(r"\*([A-Z][^*\n]+)\*", re.sub(r"\*\*.*?\*\*", "", (FOLDER / "runbooks.md").read_text())))
    assert named - titles == set()
    assert linked >= ALERTS
