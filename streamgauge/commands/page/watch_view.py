"""*Watch*: how right the model is and how sure that is, and how the stream flows."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from streamgauge.commands.page import charts
from streamgauge.commands.page.desk import the_desk
from streamgauge.commands.page.frame import heading, note, told
from streamgauge.commands.page.history import WINDOWS, Accuracy, Point, Rate
from streamgauge.commands.page.recent import Judgement
from streamgauge.commands.page.room import Watched
from streamgauge.commands.page.words import interval, percent, plain, short, table

PATH = "watch"
EVERY_S = 2.0
JUDGEMENTS = 10
NAMES = {"5m": "5 minutes", "1h": "1 hour", "24h": "24 hours", "all": "all retained"}
SPANS_S = {"15 minutes": 900.0, "1 hour": 3600.0, "6 hours": 21_600.0, "24 hours": 86_400.0}


def show() -> None:
    """Moves by itself."""
    st.title("Watch")
    _numbers()


@st.fragment(run_every=EVERY_S)
def _numbers() -> None:
    desk = the_desk()
    with st.container(horizontal=True):
        window = st.radio(
            "Predictions of the last",
            WINDOWS,
            index=3,
            format_func=lambda name: NAMES[name],
            horizontal=True,
            key="window",
        )
        span = "15 minutes"
        if desk.has_prometheus:
            span = st.selectbox("Charts of the last", list(SPANS_S), key="span", width=160)
    with told():
        watched = desk.watch(window, SPANS_S[span], JUDGEMENTS)
        last = watched.points[-1] if watched.points else Point(0.0)
        accuracy = next((point.accuracy for point in reversed(watched.points[-12:]) if point.accuracy), None)
        _accuracy(accuracy, watched)
        _flow(watched, last)
        _judgements(watched.judgements)


def _accuracy(accuracy: Accuracy | None, watched: Watched) -> None:
    if watched.problem:
        st.warning(f"No accuracy: {plain(watched.problem)}", icon=":material/warning:")
    audit, every = (accuracy.audit, accuracy.every) if accuracy else (None, None)
    without = "not known now" if watched.problem else "no labels yet"
    left, right = st.columns(2)
    with left:
        _rate("How right: the audit", audit, without, "Of texts chosen by chance. This is how right the model is.")
    with right:
        biased = "Whoever labelled what. It is biased by what people choose to label."
        _rate("How right: all labels", every, without, biased)
    if accuracy:
        note(f"Model: {plain(accuracy.model)}")
        words = f"{charts.in_words('Accuracy of the audit', audit)}. {charts.in_words('Of all labels', every)}."
        st.altair_chart(charts.accuracy(watched.points), alt=words)


def _rate(title: str, rate: Rate | None, without: str, meaning: str) -> None:
    with st.container(border=True):
        st.metric(title, percent(rate.value) if rate else "-", help=meaning)
        note(interval(rate) if rate else without)


def _flow(watched: Watched, last: Point) -> None:
    per_s = "-" if last.texts_per_s is None else f"{last.texts_per_s:,.0f}"
    lag = next((point.lag for point in reversed(watched.points) if point.lag is not None), None)
    behind = "-" if lag is None else f"{lag:,.0f}"
    left, right = st.columns(2)
    with left:
        heading("Throughput")
        _chart(charts.lines(watched.points, {"texts": "texts_per_s"}, "texts/s"), f"Texts a second now: {per_s}")
        heading("Lag")
        _chart(charts.lines(watched.points, {"texts": "lag"}, "texts"), f"Texts that wait now: {behind}")
    with right:
        heading("Latency")
        series = {"median": "p50_s", "p99": "p99_s"}
        _chart(charts.lines(watched.points, series, "seconds"), charts.latency_in_words(watched.points))
        heading("Predicted classes")
        words = ", ".join(f"{name} {percent(share)}" for name, share in watched.mix.items())
        _chart(charts.mix(watched.mix), f"Last 5 minutes: {words or 'nothing'}")


def _chart(chart: charts.Drawn, words: str) -> None:
    note(plain(words))
    st.altair_chart(chart, alt=words)


def _judgements(found: Sequence[tuple[Judgement, str | None]]) -> None:
    heading("Last labels")
    if not found:
        note("No label yet of a result that is known here.")
        return
    rows = [
        [
            short(text),
            f"{one.seen.label} {100 * one.seen.score:.0f} %",
            one.given.label,
            "✓ right" if one.is_right else "✗ wrong",
            one.given.source or "-",
            datetime.fromtimestamp(one.given.at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S"),
        ]
        for one, text in found
    ]
    st.html(table(["text", "model said", "label", "verdict", "from", "at"], rows))
