"""Draws what the dashboards' queries give on a real Prometheus, for a look at it where there is no Grafana.

    python -m tests.dashboards.charts --prometheus http://localhost:9090 --output charts.html --png charts.png

Grafana draws otherwise. Places, titles, names, colours, limits, units and words for what is empty are the JSON's.
"""

import argparse
import asyncio
import html
import json
import math
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.dashboards.reading import BOARDS, VARIABLES, flat, named, overridden
from tests.page.seat import chromium

POINTS = 240
ROW_PX, COLUMN_PX = 30, 50
SCRAPE_S = 5
NAMES = ("#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0")
"""For what has the colour of its name: as Grafana has it, but which of them is Grafana's own affair."""
STYLE = f"""
body {{ background: #111217; color: #ccccdc; font: 12px sans-serif; width: {24 * COLUMN_PX}px; margin: 8px }}
.note {{ background: #E69F00; color: black; padding: 4px 8px }}
.grid {{ display: grid; grid-template-columns: repeat(24, {COLUMN_PX}px); grid-auto-rows: {ROW_PX}px }}
.row {{ font-weight: bold; align-self: center }}
.panel {{ background: #181b1f; border: 1px solid #2c3235; margin: 2px; padding: 3px 6px; overflow: hidden }}
.title {{ font-weight: 600; white-space: nowrap }}
.legend {{ font-size: 10px; line-height: 13px }} .legend span {{ margin-right: 10px; white-space: nowrap }}
.numbers {{ display: flex; gap: 12px; justify-content: space-evenly; text-align: center }}
.big {{ font-size: 24px }} .none {{ color: #888; text-align: center; padding-top: 20px }}
td, th {{ padding: 1px 6px; text-align: left; font-size: 11px }}
"""


@dataclass(frozen=True)
class Series:
    """A name as the legend gives it, the labels, and values by time in s."""

    name: str
    labels: dict[str, str]
    values: dict[float, float]
    unit: str

    @property
    def last(self) -> float:
        return next(reversed(self.values.values()))


@dataclass(frozen=True)
class Window:
    """What is looked at, in s since 1970; all of it, of every replica."""

    start_s: float
    end_s: float
    step_s: int

    def substituted(self, expr: str) -> str:
        rate_interval = max(4 * SCRAPE_S, self.step_s + SCRAPE_S)
        for name, value in (VARIABLES | {"$__rate_interval": f"{rate_interval}s", "$window": "1h"}).items():
            expr = expr.replace(name, value)
        return expr


def asked(prometheus: str, window: Window, panel: dict[str, Any]) -> list[Series]:
    """The series of all queries of a panel, without those that have no value."""
    found = []
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        parameters = {"query": window.substituted(target["expr"]), "step": str(window.step_s)}
        parameters |= {"start": str(window.start_s), "end": str(window.end_s)}
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(parameters)}") as answer:
            result = json.load(answer)["data"]["result"]
        for one in result:
            values = {at: float(value) for at, value in one["values"] if math.isfinite(float(value))}
            if values and (not target.get("instant") or max(values) >= window.end_s - 2 * window.step_s):
                found.append(Series(named(target.get("legendFormat", ""), one["metric"]), one["metric"], values, unit))
    return found


def shown(value: float, unit: str) -> str:
    """As Grafana would write it, nearly."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    if unit == "s":
        return (
            f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
        )
    number = f"{value / 1000:.3g} K" if abs(value) >= 1000 else f"{value:.3g}"
    return number + unit.removeprefix("suffix:") if unit.startswith("suffix:") else number


def color_of(panel: dict[str, Any], name: str) -> str:
    fixed = overridden(panel, name, "color")
    return str(fixed["fixedColor"]) if fixed else NAMES[zlib.crc32(name.encode()) % len(NAMES)]


def limit_color(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    color = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return "#ccccdc" if color == "text" else color


def lines(panel: dict[str, Any], found: Sequence[Series], window: Window, width: int, height: int) -> str:
    """A drawing of all series, with the limit."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    base: dict[float, float] = {}
    drawn: list[tuple[Series, dict[float, float]]] = []
    for one in found:
        values = {at: value + base.get(at, 0) for at, value in one.values.items()} if stacked else one.values
        base |= values if stacked else {}
        drawn.append((one, values))
    everything = [value for _one, values in drawn for value in values.values()]
    limits = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    soft = [defaults["custom"][key] for key in ("axisSoftMin", "axisSoftMax") if key in defaults["custom"]]
    everything += soft
    low = defaults.get("min", min([*everything, 0]))
    high = defaults.get("max", max([*everything, *(limits if max(everything) > max(limits, default=0) / 4 else [])]))
    high = high if high > low else low + 1

    def place(at: float, value: float) -> str:
        x = 50 + (at - window.start_s) / (window.end_s - window.start_s) * (width - 55)
        return f"{x:.1f},{height - 14 - (value - low) / (high - low) * (height - 20):.1f}"

    parts = []
    for share in (0, 0.5, 1):
        value = low + share * (high - low)
        start, end = place(window.start_s, value), place(window.end_s, value)
        parts.append(f'<polyline points="{start} {end}" stroke="#2c3235"/>')
        parts.append(
            f'<text x="46" y="{float(start.split(",")[1]) + 3}" text-anchor="end">'
            f"{shown(value, defaults['unit'])}</text>"
        )
    for at, anchor in ((window.start_s, "start"), (window.end_s, "end")):
        x = place(at, low).split(",")[0]
        parts.append(
            f'<text x="{x}" y="{height - 2}" text-anchor="{anchor}">{time.strftime("%H:%M", time.gmtime(at))}</text>'
        )
    for limit in limits if defaults["custom"].get("thresholdsStyle") else []:
        if low <= limit <= high:
            points = f"{place(window.start_s, limit)} {place(window.end_s, limit)}"
            parts.append(f'<polyline points="{points}" stroke="#D55E00" stroke-dasharray="2 3"/>')
    for one, values in drawn:
        dash = (overridden(panel, one.name, "custom.lineStyle") or {}).get("dash", [])
        for piece in pieces(values, window.step_s):
            points = " ".join(place(at, value) for at, value in piece)
            style = f'stroke="{color_of(panel, one.name)}" stroke-dasharray="{" ".join(map(str, dash))}"'
            parts.append(f'<polyline points="{points}" fill="none" stroke-width="1.6" stroke-linecap="round" {style}/>')
    return f'<svg width="{width}" height="{height}" fill="#888" font-size="9">{"".join(parts)}</svg>'


def pieces(values: dict[float, float], step_s: int) -> Iterator[list[tuple[float, float]]]:
    """What has no gap: Grafana draws no line where there is no value."""
    piece: list[tuple[float, float]] = []
    for at, value in values.items():
        if piece and at - piece[-1][0] > 1.5 * step_s:
            yield piece
            piece = []
        piece.append((at, value))
    yield piece


def heatmap(found: Sequence[Series], window: Window, width: int, height: int) -> str:
    """Buckets over time: the more, the lighter."""
    edges = sorted(found, key=lambda one: float(one.labels["le"].replace("+Inf", "inf")))
    cells, below = [], dict[float, float]()
    for place, one in enumerate(edges):
        cells += [(place, at, value - below.get(at, 0)) for at, value in one.values.items()]
        below = one.values
    most = max((value for *_, value in cells), default=1) or 1
    tall = (height - 14) / len(edges)
    wide = (width - 55) * window.step_s / (window.end_s - window.start_s)
    parts = [
        f'<rect x="{50 + (at - window.start_s) / window.step_s * wide:.1f}" y="{height - 14 - (place + 1) * tall:.1f}" '
        f'width="{wide + 0.5:.1f}" height="{tall:.1f}" fill="#9ecae1" fill-opacity="{max(value, 0) / most:.2f}"/>'
        for place, at, value in cells
    ]
    for place, one in enumerate(edges):
        parts.append(
            f'<text x="46" y="{height - 14 - (place + 0.4) * tall:.1f}" text-anchor="end">≤ {one.labels["le"]}</text>'
        )
    return f'<svg width="{width}" height="{height}" fill="#888" font-size="9">{"".join(parts)}</svg>'


def legend(panel: dict[str, Any], found: Sequence[Series]) -> str:
    entries = (
        f'<span style="color:{color_of(panel, one.name)}">━ </span>'
        f"<span>{html.escape(one.name)}: {shown(one.last, one.unit)}</span>"
        for one in found
    )
    return f'<div class="legend">{" ".join(entries)}</div>'


def numbers(panel: dict[str, Any], found: Sequence[Series]) -> str:
    parts = []
    for one in found:
        text, color = shown(one.last, one.unit), limit_color(panel, one.last)
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
            to = mapping["options"]["to"]
            if mapping["options"]["from"] <= one.last and (to is None or one.last <= to):
                text, color = (mapping["options"]["result"][key] for key in ("text", "color"))
                break
        parts.append(
            f'<div><div>{html.escape(one.name)}</div><div class="big" style="color:{color}">{text}</div></div>'
        )
    return f'<div class="numbers">{"".join(parts)}</div>'


def bars(panel: dict[str, Any], found: Sequence[Series], width: int) -> str:
    color = panel["fieldConfig"]["defaults"]["color"]["fixedColor"]
    return "".join(
        f'<div>{one.name} <span style="display:inline-block;height:11px;background:{color};'
        f'width:{one.last * (width - 120):.0f}px">'
        f"</span> {shown(one.last, one.unit)}</div>"
        for one in found
    )


def rows(panel: dict[str, Any], found: Sequence[Series]) -> str:
    """The labels that are kept, or a matrix; the value of now."""
    [options] = [one["options"] for one in panel["transformations"]]
    if "rowField" in options:
        row, column = options["rowField"], options["columnField"]
        columns = sorted({one.labels[column] for one in found})
        cells = {(one.labels[row], one.labels[column]): shown(one.last, "short") for one in found}
        table = [[f"{row}\\{column}", *columns]]
        table += [
            [name, *(cells.get((name, one), "0") for one in columns)] for name in sorted({key[0] for key in cells})
        ]
    else:
        names = options["include"]["names"]
        table = [names, *([one.labels.get(name, "") for name in names] for one in found)]
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def content(panel: dict[str, Any], found: Sequence[Series], window: Window) -> str:
    width, height = panel["gridPos"]["w"] * COLUMN_PX - 20, panel["gridPos"]["h"] * ROW_PX - 28
    if not found:
        return f'<div class="none">{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'
    match panel["type"]:
        case "stat":
            return numbers(panel, found)
        case "bargauge":
            return bars(panel, found, width)
        case "table":
            return rows(panel, found)
        case "heatmap":
            return heatmap(found, window, width, height)
        case _:
            legend_px = 13 * (1 + sum(len(one.name) + 12 for one in found) * 6 // width)
            return lines(panel, found, window, width, max(80, height - legend_px)) + legend(panel, found)


def drawn(prometheus: str, window: Window, board: dict[str, Any]) -> str:
    """All panels of a dashboard, its collapsed rows opened."""
    parts, y, opened = [], 0, 0
    for panel in flat(board):
        at = panel["gridPos"]
        if panel["type"] == "row":
            opened = y - at["y"] if panel.get("panels") else 0
            place = f"grid-area:{at['y'] + opened + 1}/1/span 1/span 24"
            parts.append(
                f'<div class="row" style="{place}">{"▸" if panel.get("panels") else "▾"} {panel["title"]}</div>'
            )
            y = max(y, at["y"] + opened + 1)
            continue
        top = at["y"] + opened
        y = max(y, top + at["h"])
        place = f"grid-area:{top + 1}/{at['x'] + 1}/span {at['h']}/span {at['w']}"
        body = content(panel, asked(prometheus, window, panel), window)
        parts.append(
            f'<div class="panel" style="{place}"><div class="title">{html.escape(panel["title"])}</div>{body}</div>'
        )
    return f'<h2>{board["title"]}</h2><div class="grid">{"".join(parts)}</div>'


def page(prometheus: str, minutes: float, end_s: float) -> str:
    """Both dashboards as one page that reads nothing from elsewhere."""
    step_s = max(SCRAPE_S, round(60 * minutes / POINTS))
    window = Window(end_s - 60 * minutes, end_s, step_s)
    at = time.strftime("%F %R UTC", time.gmtime(end_s))
    note = f"Not Grafana: drawn by tests/dashboards/charts.py from what the dashboards' queries gave at {at}"
    boards = "".join(drawn(prometheus, window, board) for board in BOARDS if board["templating"].get("list"))
    head = f'<!doctype html><meta charset="utf-8"><title>Dashboards</title><style>{STYLE}</style>'
    return f'{head}<div class="note">{note}</div>{boards}'


async def photograph(content: str, target: Path) -> None:
    async with chromium() as browser:
        seen = await browser.new_page(viewport={"width": 24 * COLUMN_PX + 16, "height": 800})
        await seen.set_content(content)
        await seen.screenshot(path=target, full_page=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--prometheus", default="http://localhost:9090", help="its address")
    parser.add_argument("--output", type=Path, required=True, help="the page to write")
    parser.add_argument("--png", type=Path, help="a picture of it, too")
    parser.add_argument("--minutes", type=float, default=20, help="how much of the past")
    parser.add_argument("--end", type=float, default=time.time(), help="s since 1970")
    chosen = parser.parse_args()
    content_of_page = page(chosen.prometheus, chosen.minutes, chosen.end)
    chosen.output.write_text(content_of_page)
    if chosen.png:
        asyncio.run(photograph(content_of_page, chosen.png))
