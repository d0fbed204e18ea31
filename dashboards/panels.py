"""The few kinds of panel that the dashboards are made of, and what all of them share.

Classic dashboard JSON, which Grafana provisions from files; every panel has a unit, a description, and words for when
there is nothing to show.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import DataSourceRef, GraphThresholdsStyleMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS_UID = "streamgauge-runbooks"
REFRESH = "5s"
GREEN, RED = "green", "red"
PER_SECOND = "suffix:/s"

P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, heatmap.Panel, bargauge.Panel)

Section = tuple[str, Sequence[Builder[Panel]]]
"""A row's title and its panels."""


@dataclass(frozen=True)
class Query:
    """An expression, and the legend of its series. A dashed line is for what others are compared with."""

    expr: str
    legend: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Words:
    """What a panel says of itself. `empty` is shown while there is nothing to show; `runbook` is an alert's name."""

    title: str
    description: str
    unit: str = "short"
    empty: str = "no data yet"
    runbook: str | None = None


@dataclass(frozen=True)
class Limit:
    """Where an alert stands: red beyond it. `is_floor`: red below it."""

    at: float
    is_floor: bool = False


def graph(
    words: Words, *queries: Query, limit: Limit | None = None, stacked: bool = False, ratio: bool = False, span: int = 8
) -> timeseries.Panel:
    """Lines over time; `ratio` fixes the axis to 0 to 1."""
    panel = _dressed(timeseries.Panel(), words, limit, span, 8).line_width(1).fill_opacity(20 if stacked else 5)
    for query, target in zip(queries, _targets(queries), strict=True):
        panel.with_target(target)
        if query.dashed:
            style = {"fill": "dash", "dash": [6, 6]}
            names = re.sub(r"\{\{\w+}}", ".*", query.legend)
            panel.override_by_regexp(f"/^{names}$/", [DynamicConfigValue("custom.lineStyle", style)])
    if limit:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    panel.min(0)
    if ratio:
        panel.max(1)
    return panel


def number(words: Words, query: Query, *, limit: Limit | None = None) -> stat.Panel:
    """The value of now, large."""
    panel = _dressed(stat.Panel(), words, limit, 4, 4)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).with_target(_targets([query])[0])


def bars(words: Words, query: Query, *, span: int = 8) -> bargauge.Panel:
    """One bar a series, with the value of now."""
    panel = _dressed(bargauge.Panel(), words, None, span, 8).min(0).max(1)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).with_target(_targets([query])[0])


def buckets(words: Words, query: Query, *, span: int = 8) -> heatmap.Panel:
    """A histogram over time; the query's series have the label `le`."""
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    target = _targets([query])[0].format(PromQueryFormat.HEATMAP)
    return _dressed(heatmap.Panel(), words, None, span, 8).color(color).with_target(target)


def rows(
    words: Words, query: Query, transformations: Sequence[tuple[str, object]] = (), *, span: int = 8
) -> table.Panel:
    """A table of the labels and values of now."""
    target = prometheus.Dataquery().expr(query.expr).instant().format(PromQueryFormat.TABLE).ref_id("A")
    configured = [DataTransformerConfig(id_val=name, options=options) for name, options in transformations]
    return _dressed(table.Panel(), words, None, span, 8).with_target(target).transformations(configured)


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range().ref_id(letter)
        for query, letter in zip(queries, "ABCDEFGH", strict=False)
    ]


def _dressed(panel: P, words: Words, limit: Limit | None, span: int, height: int) -> P:
    panel.title(words.title).description(words.description).unit(words.unit).no_value(words.empty)
    panel.datasource(DATASOURCE).span(span).height(height)
    steps = [Threshold(None, GREEN)]
    if limit:
        first, beyond = (RED, GREEN) if limit.is_floor else (GREEN, RED)
        steps = [Threshold(None, first), Threshold(limit.at, beyond)]
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if words.runbook:
        link = dashboard.DashboardLink(f"Runbook: {words.runbook}").type(DashboardLinkType.LINK)
        panel.links([link.url(f"/d/{RUNBOOKS_UID}")])
    return panel


def board(title: str, uid: str, description: str) -> dashboard.Dashboard:
    """An empty dashboard: refreshed with every scrape, not to be edited by hand, the others one click away."""
    others = dashboard.DashboardLink("Streamgauge").type(DashboardLinkType.DASHBOARDS).tags(["streamgauge"])
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["streamgauge"])
        .readonly()
        .refresh(REFRESH)
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(others.as_dropdown(True).keep_time(True).include_vars(True))
    )


def firing_alerts() -> dashboard.AnnotationQuery:
    """What was firing, as marks on all graphs."""
    marks = dashboard.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True).icon_color(RED)
    marks.expr('ALERTS{alertname=~"Streamgauge.+", alertstate="firing"}').step("15s")
    return marks.title_format("{{alertname}}").text_format("{{severity}}").tag_keys("severity,model")


def datasource() -> dashboard.DatasourceVariable:
    """The variable that says which Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A variable whose values are those of a label; all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all"))
    )


def window() -> dashboard.CustomVariable:
    """Which predictions the accuracy is about, by their age."""
    return (
        dashboard.CustomVariable("window")
        .label("Window")
        .values("5m,1h,24h,all")
        .current(VariableOption(text="1h", value="1h"))
    )


def fill(target: dashboard.Dashboard, sections: Sequence[Section]) -> dashboard.Dashboard:
    """Rows of panels, with ids that stay the same as long as their order does."""
    number_of_panels = 0
    for title, panels in sections:
        target.with_row(dashboard.Row(title))
        for panel in panels:
            number_of_panels += 1
            target.with_panel(panel.id(number_of_panels))  # type: ignore[attr-defined]
    return target
