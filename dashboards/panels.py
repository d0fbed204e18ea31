"""The few kinds of panel that the dashboards are made of, and what all of them share.

Classic dashboard JSON, which Grafana provisions from files; every panel has a unit, a description, and words for when
there is nothing to show.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    GraphThresholdsStyleMode,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DashboardRangeMapOptions,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Panel,
    RangeMap,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.colors import GREEN, NEUTRAL, SEVERITIES, VARIABLE, VERMILLION, WORDS, colors

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS_UID = "streamgauge-runbooks"
REFRESH = "5s"
COLUMNS = 24
DASHES = {"dashed": [6, 6], "dotted": [1, 5]}
PER_SECOND = "suffix:/s"
WORKER = "count(streamgauge_worker_ready)"
LISTENER = "count(streamgauge_listener_ready == 1)"
"""Who would know, for `told_by`: a worker that answers, a listener that shows its numbers."""

P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, heatmap.Panel, bargauge.Panel)

Section = tuple[str, Sequence[Builder[Panel]]]
"""A row's title and its panels."""


@dataclass(frozen=True)
class Query:
    """An expression, and the legend of its series. A dashed line is for what others are compared with; a dotted one is
    of the same colour as another.
    """

    expr: str
    legend: str = ""
    dashed: bool = False
    dotted: bool = False


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


@dataclass(frozen=True)
class Verdict:
    """Words instead of a number, for values of `at` and more, up to the next verdict."""

    at: float
    text: str
    color: str


def graph(
    words: Words,
    *queries: Query,
    limit: Limit | None = None,
    stacked: bool = False,
    ratio: bool = False,
    signed: bool = False,
    shown_to: float | None = None,
    span: int = 8,
) -> timeseries.Panel:
    """Lines over time; `ratio` fixes the axis to 0 to 1, `signed` shows what is below 0, too. The axis reaches to
    `shown_to` at least, so that little looks little.
    """
    panel = _dressed(timeseries.Panel(), words, limit, span, 8).line_width(2).fill_opacity(20 if stacked else 0)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(common.VizLegendOptions().show_legend(True).calcs(["lastNotNull"]))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    for query, target in zip(queries, _targets(queries), strict=True):
        panel.with_target(target)
        for names, color in colors(query.legend):
            fixed = {"mode": "fixed", "fixedColor": color}
            panel.override_by_regexp(names, [DynamicConfigValue("color", fixed)])
        style = "dashed" if query.dashed else "dotted" if query.dotted else None
        if style:
            names = f"/^{VARIABLE.sub('.+', query.legend)}$/"
            fill = {"fill": "dash" if query.dashed else "dot", "dash": DASHES[style]}
            panel.override_by_regexp(names, [DynamicConfigValue("custom.lineStyle", fill)])
    if limit:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if not signed:
        panel.min(0)
    if ratio:
        panel.max(1)
    if shown_to:
        panel.axis_soft_max(shown_to)
        if signed:
            panel.axis_soft_min(-shown_to)
    return panel


def number(
    words: Words, *queries: Query, limit: Limit | None = None, verdicts: Sequence[Verdict] = (), span: int = 4
) -> stat.Panel:
    """The value of now, large, or the verdict on it."""
    panel = _dressed(stat.Panel(), words, limit, span, 4).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"])
    )
    for target in _targets(queries, instant=True):
        panel.with_target(target)
    return panel.mappings(_ranges(verdicts)) if verdicts else panel


def _ranges(verdicts: Sequence[Verdict]) -> list[ValueMapping]:
    """The highest first: of two ranges that share an edge, Grafana takes the first."""
    ranges: list[ValueMapping] = []
    to = None
    for index, verdict in enumerate(sorted(verdicts, key=lambda verdict: -verdict.at)):
        result = ValueMappingResult(verdict.text, verdict.color, index=index)
        ranges.append(RangeMap(DashboardRangeMapOptions(verdict.at, to, result)))
        to = verdict.at
    return ranges


def bars(words: Words, query: Query, *, span: int = 8) -> bargauge.Panel:
    """One bar a series, with the value of now. What is measured has one colour, since no value is bad by itself."""
    panel = _dressed(bargauge.Panel(), words, None, span, 8).min(0).max(1)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(WORDS["all labels"]))
    [target] = _targets([query], instant=True)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).with_target(target)


def buckets(words: Words, query: Query, *, span: int = 8) -> heatmap.Panel:
    """A histogram over time; the query's series have the label `le`."""
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    target = _targets([query])[0].format(PromQueryFormat.HEATMAP)
    return _dressed(heatmap.Panel(), words, None, span, 8).color(color).with_target(target)


def rows(
    words: Words, query: Query, transformations: Sequence[tuple[str, object]] = (), *, span: int = 8
) -> table.Panel:
    """A table of the labels and values of now; a severity has its colour."""
    target = prometheus.Dataquery().expr(query.expr).instant().format(PromQueryFormat.TABLE).ref_id("A")
    configured = [DataTransformerConfig(id_val=name, options=options) for name, options in transformations]
    panel = _dressed(table.Panel(), words, None, span, 8).with_target(target).transformations(configured)
    severities = {name: ValueMappingResult(name, color) for name, color in SEVERITIES.items()}
    cell = DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
    return panel.override_by_name("severity", [DynamicConfigValue("mappings", [ValueMap(severities)]), cell])


def told_by(somebody: str, expr: str) -> str:
    """`expr`, or 0 where it has no series; nothing at all where `somebody`, who would know, has none."""
    return f"({expr} or vector(0)) and on () {somebody}"


def _targets(queries: Sequence[Query], *, instant: bool = False) -> list[prometheus.Dataquery]:
    """Over the time shown, or `instant`: of now alone. The last value of a range may be half an hour old."""
    targets = []
    for query, letter in zip(queries, "ABCDEFGH", strict=False):
        target = prometheus.Dataquery().expr(_one_series(query)).legend_format(query.legend).ref_id(letter)
        targets.append(target.instant() if instant else target.range())
    return targets


def _one_series(query: Query) -> str:
    """`a or b` gives two series over time where a has a name and b has none: a legend without a variable names one."""
    if " or " not in query.expr or VARIABLE.search(query.legend):
        return query.expr
    return f"max({query.expr})"


def _dressed(panel: P, words: Words, limit: Limit | None, span: int, height: int) -> P:
    panel.title(words.title).description(words.description).unit(words.unit).no_value(words.empty)
    panel.datasource(DATASOURCE).span(span).height(height)
    steps = [Threshold(None, NEUTRAL)]
    if limit:
        first, beyond = (VERMILLION, GREEN) if limit.is_floor else (GREEN, VERMILLION)
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


def firing_alerts() -> list[dashboard.AnnotationQuery]:
    """What was firing, as marks on all graphs, a colour a severity."""
    return [_marks(severity, color) for severity, color in SEVERITIES.items()]


def _marks(severity: str, color: str) -> dashboard.AnnotationQuery:
    marks = dashboard.AnnotationQuery().name(f"Alerts: {severity}").datasource(DATASOURCE).enable(True)
    marks.icon_color(color).step("15s")
    marks.expr(f'ALERTS{{alertname=~"Streamgauge.+", alertstate="firing", severity="{severity}"}}')
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


def fill(
    target: dashboard.Dashboard, sections: Sequence[Section], collapsed: Sequence[Section] = ()
) -> dashboard.Dashboard:
    """Rows of panels, with ids that stay the same as long as their order does; the last rows are opened by a click."""
    numbers, row_numbers = itertools.count(1), itertools.count(1001)
    y = 0
    for title, panels in sections:
        target.with_row(dashboard.Row(title).id(next(row_numbers)).grid_pos(GridPos(x=0, y=y, w=COLUMNS, h=1)))
        y = _place(panels, y + 1)
        for panel in panels:
            target.with_panel(panel.id(next(numbers)))  # type: ignore[attr-defined]
    for title, panels in collapsed:
        row = dashboard.Row(title).id(next(row_numbers)).grid_pos(GridPos(x=0, y=y, w=COLUMNS, h=1)).collapsed(True)
        y += 1
        _place(panels, y)
        for panel in panels:
            row.with_panel(panel.id(next(numbers)))  # type: ignore[attr-defined]
        target.with_row(row)
    return target


def _place(panels: Sequence[Builder[Panel]], y: int) -> int:
    """Give each panel its place from left to right, and say where the next row begins."""
    x = height = 0
    for panel in panels:
        at = panel.build().grid_pos
        assert at, "a panel has a size"
        if x + at.w > COLUMNS:
            x, y, height = 0, y + height, 0
        at.x, at.y = x, y
        x, height = x + at.w, max(height, at.h)
    return y + height
