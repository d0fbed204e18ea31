"""How the dashboards look, as far as their JSON tells: places, colours, units, limits and names."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from dashboards.colors import NAMED, SEVERITIES, VALUES, VARIABLE, WORDS, meaning
from tests.dashboards.reading import BOARDS, PANELS, Panel, expressions, overridden
from tests.dashboards.test_dashboards import RULES

MONITORING = [board for board in BOARDS if board["templating"]]
OPENING = ["Model accuracy", "Prediction latency", "Requests", "Confidence distribution"]
"""As tutorials on monitoring a model with Prometheus and Grafana have it."""
SCREEN_ROWS, SCREEN_PANELS = 24, 12
"""Of Grafana's grid on 1080 lines; and what one takes in at once."""
GRAPHS = [panel for panel in PANELS if panel.json["type"] == "timeseries"]
NUMBERS = [panel for panel in PANELS if panel.json["type"] == "stat"]
IS_RATE = re.compile(r"\brate\((?!\w+_(?:seconds_total|bucket|sum|count)\b)|:rate\d+m\b")
COMPARISON = re.compile(r"([\w:]+)(?:\{[^}]*})? (?:>=?|<) ([\d.]+)(?: \* ([\d.]+))?(?![\d.])(?! [*+])")
"""A series with a number, perhaps a product."""
COLOR_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""Machado, Oliveira and Fernandes (2009), severity 1, of linear RGB."""

each_graph = pytest.mark.parametrize("panel", GRAPHS, ids=str)


def names(legend: str) -> Iterator[tuple[str, str]]:
    """The names that a legend may give, of one model and replica, each with what it means."""
    variables = [name for name in VARIABLE.findall(legend) if name in VALUES]
    for values in itertools.product(*(VALUES[name] for name in variables)):
        said = legend
        for name, value in zip(variables, values, strict=True):
            said = said.replace(f"{{{{{name}}}}}", value)
        yield VARIABLE.sub("one", said), meaning(said)


def lines(panel: Panel) -> list[tuple[str, str, str | None, Any]]:
    """Of each line of a graph: its name, what it means, its colour, None where Grafana gives it, and its dashes."""
    return [
        (name, means, (overridden(panel.json, name, "color") or {}).get("fixedColor"), dashes(panel, name))
        for target in panel.json["targets"]
        for name, means in names(target["legendFormat"])
    ]


def dashes(panel: Panel, name: str) -> tuple[int, ...]:
    return tuple((overridden(panel.json, name, "custom.lineStyle") or {}).get("dash", ()))


@pytest.mark.parametrize("board", MONITORING, ids=lambda board: board["uid"])
def test_the_first_screen_is_taken_in_at_once(board: dict[str, Any]) -> None:
    """What is open fits on it; all else stands below, in rows that a click opens."""
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    first = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(first) <= SCREEN_PANELS
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in first)
    assert bottom <= SCREEN_ROWS
    collapsed = [row for row in rows if row["collapsed"]]
    assert [row["gridPos"]["y"] for row in collapsed] == list(range(bottom, bottom + len(collapsed)))
    assert all(bool(row["panels"]) == row["collapsed"] for row in rows)


def test_model_monitoring_opens_as_its_readers_expect() -> None:
    """With the four panels of the tutorials, half the width each."""
    own = [panel.json for panel in PANELS if panel.board == "ML Model Monitoring"][:4]
    assert [panel["title"] for panel in own] == OPENING
    assert {(panel["gridPos"]["w"], panel["gridPos"]["h"]) for panel in own} == {(12, 8)}


def test_a_meaning_has_one_colour() -> None:
    """In every panel of both; what is not a name of something has one."""
    found = defaultdict(set)
    for panel in GRAPHS:
        for _name, means, color, _dashes in lines(panel):
            found[means].add(color)
    assert {means for means, colors in found.items() if len(colors) > 1} == set()
    legends = {target["legendFormat"] for panel in GRAPHS for target in panel.json["targets"]}
    own = {meaning(legend) for legend in legends if not set(VARIABLE.findall(legend)) & NAMED} - {""}
    assert {means for means in own if not VARIABLE.search(means) and found[means] == {None}} == set()
    assert set(WORDS) <= set(found)


@each_graph
def test_lines_can_be_told_apart(panel: Panel) -> None:
    """By name, and by colour or dashes; only the two ends of an interval share both. Values of one label differ."""
    shown = lines(panel)
    given = [name for name, *_ in shown]
    assert len(set(given)) == len(given)
    looks = defaultdict(set)
    for _name, means, color, dashed in shown:
        if color:
            looks[color, dashed].add(means)
    assert {look: means for look, means in looks.items() if len(means) > 1} == {}


def seen(color: str, by: str) -> np.ndarray:
    """CIELAB of a colour `#rrggbb` as it is seen."""
    rgb = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(COLOR_BLIND[by]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("by", COLOR_BLIND)
def test_the_colour_blind_see_as_many_colours(by: str) -> None:
    """Colours of one panel are far apart also for them: 10 is seen at a glance, 2.3 is just noticed."""
    together = {
        frozenset(pair)
        for panel in GRAPHS
        for pair in itertools.combinations({color for _name, _means, color, _dashes in lines(panel) if color}, 2)
    }
    together |= {frozenset(steps) for panel in NUMBERS if len(steps := step_colors(panel)) == 2}
    together.add(frozenset(SEVERITIES.values()))
    distances = {pair: float(np.linalg.norm(seen(min(pair), by) - seen(max(pair), by))) for pair in together}
    assert len(distances) > 10
    assert {pair: distance for pair, distance in distances.items() if distance < 10} == {}


def step_colors(panel: Panel) -> set[str]:
    return {step["color"] for step in panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]}


def fitting(exprs: Sequence[str]) -> str | None:
    """The unit that all of a panel's queries are in; None where the names do not tell."""
    expr = " ".join(exprs)
    if all(
        re.search(r":ratio|:difference|_limit\b|confidence:mean|ml_model_accuracy|bin_correct", one) for one in exprs
    ):
        return "percentunit"
    if all(IS_RATE.search(one) for one in exprs):
        return "suffix:/s"
    if all(re.search(r"_seconds(?!_total)", one) and "start_time" not in one for one in exprs):
        return "s"
    if all("_bytes" in one for one in exprs):
        return "bytes"
    return "short" if not re.search(r"_seconds|_bytes|:ratio", expr) else None


@pytest.mark.parametrize("panel", [panel for panel in PANELS if not panel.is_text], ids=str)
def test_the_unit_fits_the_query(panel: Panel) -> None:
    """A share is in percent, a duration in seconds, a rate a second, memory in bytes."""
    fits = fitting(expressions(panel))
    if fits and panel.json["type"] != "table":
        assert panel.json["fieldConfig"]["defaults"]["unit"] == fits


def test_a_limit_is_where_its_alert_stands() -> None:
    """Where an alert compares what is recorded with a number, a panel that leads to its runbook has that limit."""
    compared = set()
    for rule in RULES:
        for name, number, factor in COMPARISON.findall(rule["expr"]):
            for panel in PANELS:
                if (
                    rule.get("alert") in runbooks(panel)
                    and ":" in name
                    and any(name in one for one in expressions(panel))
                ):
                    at = float(number) * float(factor or 1) or 1  # more than none is one
                    assert at in [pytest.approx(limit) for limit in limits(panel)], f"{panel}"
                    compared.add(str(panel))
    assert len(compared) > 5


def runbooks(panel: Panel) -> set[str]:
    return {link["title"].removeprefix("Runbook: ") for link in panel.json.get("links", [])}


def limits(panel: Panel) -> list[float]:
    """Where colours change."""
    defaults = panel.json["fieldConfig"]["defaults"]
    steps = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    return steps + [mapping["options"]["from"] for mapping in defaults.get("mappings", [])]


@pytest.mark.parametrize("panel", NUMBERS, ids=str)
def test_a_number_that_can_be_bad_says_when_it_is(panel: Panel) -> None:
    """It has a limit or verdicts, where an alert is about it. An accuracy is judged by the floor, a setting."""
    if panel.json.get("links") and not any("accuracy" in expr for expr in expressions(panel)):
        assert len(step_colors(panel)) == 2 or panel.json["fieldConfig"]["defaults"]["mappings"]


@pytest.mark.parametrize("panel", NUMBERS, ids=str)
def test_a_number_without_a_name_is_one(panel: Panel) -> None:
    """`a or b` is two series over a time in which both have been there, and would be two numbers."""
    for target in panel.json["targets"]:
        if not target["legendFormat"]:
            assert re.match(r"(sum|max|count)\(|streamgauge:[\w:]+( and on \(\) count\(\w+\))?$", target["expr"])
            assert " or " not in target["expr"] or re.match(r"max\(.*\)$", target["expr"])
