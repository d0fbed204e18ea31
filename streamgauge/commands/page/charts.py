"""The charts of *Watch*, as Vega-Lite draws them; and the same in words, for whoever does not see them. Pure."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import altair

from streamgauge.commands.page.history import Point, Rate
from streamgauge.commands.page.words import duration, interval, percent

HEIGHT_PX = 240
AUDIT, EVERY = "audit", "all labels"
COLOURS = ["#3b82f6", "#f59e0b"]
"""Seen apart on white and on black, also by those who do not see all colours."""
FLOOR_STEP = 0.1
SECONDS_BELOW_S = 300.0
Drawn = altair.Chart | altair.LayerChart | altair.FacetChart


def accuracy(points: Sequence[Point]) -> Drawn:
    """Both accuracies with their intervals. An interval that is wide at first does not flatten the rest."""
    rows: list[dict[str, Any]] = [
        {"at": _time(point), "of": kind, **rate._asdict()}
        for point in points
        if point.accuracy
        for kind, rate in ((AUDIT, point.accuracy.audit), (EVERY, point.accuracy.every))
        if rate
    ]
    lowest = min((row["value"] for row in rows), default=0.0)
    scale = altair.Scale(domain=[max(0.0, math.floor(lowest / FLOOR_STEP - 1) * FLOOR_STEP), 1], clamp=True)
    percents = altair.Axis(format="%", tickCount=5)
    base = altair.Chart(_data(rows)).encode(_axis(points), _colour([AUDIT, EVERY]))
    band = base.mark_area(opacity=0.2, clip=True).encode(
        altair.Y("low:Q", title=None, scale=scale, axis=percents), altair.Y2("high:Q")
    )
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        altair.Y("value:Q", title=None, scale=scale, axis=percents),
        tooltip=[
            altair.Tooltip("of:N", title="accuracy of"),
            *(altair.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
            altair.Tooltip("n:Q", title="labels", format=","),
        ],
    )
    return altair.layer(band, line).properties(height=HEIGHT_PX)


def lines(points: Sequence[Point], series: Mapping[str, str], unit: str) -> Drawn:
    """Some fields of the points over time; `series`: the field by its name in the legend."""
    rows = [
        {"at": _time(point), "of": name, "value": value}
        for point in points
        for name, field in series.items()
        if (value := getattr(point, field)) is not None
    ]
    sized = altair.Chart(_data(rows)).properties(height=HEIGHT_PX)
    drawn: altair.Chart = sized.mark_line(strokeWidth=2) if len(series) > 1 else sized.mark_area(line=True, opacity=0.4)
    value = altair.Y("value:Q", title=unit, scale=altair.Scale(zero=True, nice=True), axis=altair.Axis(tickCount=4))
    shown: altair.Chart = drawn.encode(_axis(points), value, _colour(list(series)), tooltip=["of:N", "value:Q"])
    return shown


def mix(shares: Mapping[str, float]) -> Drawn:
    """A bar a class."""
    rows = [{"class": name, "share": share} for name, share in shares.items()]
    bars: altair.Chart = altair.Chart(_data(rows)).properties(height=HEIGHT_PX).mark_bar(color=COLOURS[0])
    shown: altair.Chart = bars.encode(
        altair.X("share:Q", title=None, scale=altair.Scale(domain=[0, 1]), axis=altair.Axis(format="%")),
        altair.Y("class:N", title=None, sort="-x"),
        tooltip=["class:N", altair.Tooltip("share:Q", format=".1%")],
    )
    return shown


def in_words(what: str, rate: Rate | None) -> str:
    """What a chart of accuracies shows now."""
    return f"{what}: {percent(rate.value)}, {interval(rate)}" if rate else f"{what}: no labels yet"


def latency_in_words(points: Sequence[Point]) -> str:
    """The last latencies that are known."""
    p50 = next((point.p50_s for point in reversed(points) if point.p50_s is not None), None)
    p99 = next((point.p99_s for point in reversed(points) if point.p99_s is not None), None)
    return f"Latency: median {duration(p50)}, 99th percentile {duration(p99)}"


def _data(rows: list[dict[str, Any]]) -> altair.InlineData:
    return altair.InlineData(values=rows)


def _time(point: Point) -> str:
    return datetime.fromtimestamp(point.at_s, UTC).isoformat()


def _axis(points: Sequence[Point]) -> altair.X:
    span_s = points[-1].at_s - points[0].at_s if points else 0
    times = "%H:%M:%S" if span_s < SECONDS_BELOW_S else "%H:%M"
    return altair.X("at:T", title=None, axis=altair.Axis(format=times, tickCount=4, grid=False))


def _colour(names: list[str]) -> altair.Color:
    legend = altair.Legend(orient="top", title=None, symbolOpacity=1, symbolType="stroke") if len(names) > 1 else None
    return altair.Color("of:N", title=None, scale=altair.Scale(domain=names, range=COLOURS), legend=legend)
