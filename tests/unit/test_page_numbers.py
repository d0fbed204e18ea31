"""What the page makes of records and series: texts a second, latency, lag, classes, accuracies, judgements."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.moment import wilson
from feedback_listener.recount_records import Values, series_of
from streamgauge.commands.page import charts, words
from streamgauge.commands.page.flow import BUCKET_S, KEPT_S, Flow
from streamgauge.commands.page.history import WINDOWS, Accuracy, Point, Rate, Samples, accuracies
from streamgauge.commands.page.recent import MAX_RESULTS, Recent
from streamgauge.commands.page.settings import AppSettings
from streamgauge.commands.page.shelf import MAX_SHOWN_CHARS
from streamgauge.events import Feedback, Histogram, TextSubmitted, TransactionMeasured, encode
from tests.audited import MODEL, event
from tests.unit.test_choosing import position
from worker.outcomes import Headers

NOW_S = 1_800_000_000.0


@dataclass(frozen=True)
class Record:
    value: bytes | None
    timestamp: int = 0
    headers: Headers = ()


def measured(records: int, *, last_offset: int = 9, seconds_ago: float = 10, latency_s: float = 0.2) -> bytes:
    """A transaction of the input's partition 0, all of its records of one latency and class."""
    at = datetime.fromtimestamp(NOW_S - seconds_ago, UTC).isoformat()
    latency = Histogram(edges=[0.1, 1.0], counts=[0, records, 0], sum=records * latency_s, max=latency_s)
    return encode(
        TransactionMeasured(
            worker="w",
            model=MODEL,
            topic="x.input",
            partition=0,
            first_offset=0,
            last_offset=last_offset,
            began_at=at,
            records=records,
            labels={"POSITIVE": records},
            dead_letters={},
            truncated=0,
            tokens=0,
            padded_tokens=0,
            tokenize_s=0,
            queue_s=0,
            infer_s=0,
            latency=latency,
        )
    )


def test_flow_of_transactions() -> None:
    """Texts a second and latency of a bucket, classes of the last minutes; what is strange or old is passed."""
    flow = Flow()
    for value in (
        measured(30),
        measured(20),
        b"{",
        None,
        measured(7, seconds_ago=KEPT_S + 60),
        measured(7, seconds_ago=-60),
    ):
        flow.add(value, NOW_S)
    [bucket] = flow.buckets.values()
    assert bucket.texts_per_s == 50 / BUCKET_S
    assert bucket.latency_s(0.99) == pytest.approx(0.2, abs=0.01)
    assert flow.mix(NOW_S - 60) == {"POSITIVE": 1.0}
    assert flow.mix(NOW_S) == {}
    flow.forget(NOW_S + KEPT_S)
    assert flow.buckets == {}


def test_lag_is_what_no_transaction_has_covered() -> None:
    """From where the input begins, where none is known; never less than nothing."""
    flow, tps = Flow(), [TopicPartition("x.input", number) for number in range(3)]
    flow.add(measured(1, last_offset=9), NOW_S)
    flow.add(measured(1, last_offset=4), NOW_S)
    assert flow.lag(dict.fromkeys(tps, 2), dict.fromkeys(tps, 12)) == 2 + 10 + 10
    assert flow.lag({tps[0]: 0}, {tps[0]: 5}) == 0


def judged(model: str, window: str, right: int, wrong: int, partition: int = 0) -> Values:
    of: dict[str, str | int] = {"model": model, "window": window, "partition": partition}
    return {
        series_of("streamgauge_predictions", **of): right + wrong,
        series_of("streamgauge_judged_predictions", **of, expected="a", predicted="a"): right,
        series_of("streamgauge_judged_predictions", **of, expected="a", predicted="b"): wrong,
    }


def test_accuracies_are_of_the_busiest_model() -> None:
    """Sums over partitions; of the audit with the interval of one look, and for all of it with the one for ever."""
    numbers = judged("new", "5m", 8, 2) | judged("new", "5m", 1, 1, partition=1) | judged("old", "5m", 1, 0)
    numbers |= judged("new", "all", 8, 2) | judged("old", "all", 500, 0)
    of = {"model": "new"}
    numbers[series_of("streamgauge_audit_judged", **of, window="5m")] = 4
    numbers[series_of("streamgauge_audit_correct", **of, window="5m")] = 3
    ends = {"accuracy_low": 0.3, "accuracy_high": 0.99, "sequence_judged": 5, "sequence_correct": 4}
    numbers |= {series_of(f"streamgauge_audit_{name}", **of): value for name, value in ends.items()}
    found = accuracies(numbers)
    assert [*found] == [*WINDOWS]
    assert found["5m"] == Accuracy("new", Rate(0.75, *wilson(3, 4), 4), Rate(0.75, *wilson(9, 12), 12))
    assert found["all"] == Accuracy("new", Rate(0.8, 0.3, 0.99, 5), Rate(0.8, *wilson(8, 10), 10))
    assert found["1h"] == Accuracy("new")
    assert accuracies({}) == {}


def test_points_have_no_gap() -> None:
    """One a bucket, from the first of which anything is known; the bucket that is not over yet is left out."""
    flow, samples = Flow(), Samples()
    flow.add(measured(10, seconds_ago=20), NOW_S)
    samples.lags[int(NOW_S) - 30], samples.accuracies[int(NOW_S) - 15] = 7, {"1h": Accuracy("m")}
    found = samples.points(flow, "1h", NOW_S)
    assert [point.at_s - NOW_S for point in found] == [*range(-30, 0, BUCKET_S)]
    assert [point.texts_per_s for point in found] == [0, 0, 2, 0, 0, 0]
    assert (found[0].lag, found[3].accuracy, found[3].lag) == (7, Accuracy("m"), None)
    samples.forget(NOW_S + KEPT_S)
    assert samples.points(Flow(), "1h", NOW_S) == []


def test_recent_records() -> None:
    """The last result, label and dead letter of each id; the newest judgement first; strangers' records are passed."""
    recent = Recent()
    for value in (event("a", position(1)), event("b", position(2)), event("a", position(3)), b"{", None):
        recent.add_result(Record(value, 5))
    for number, (message_id, label) in enumerate(
        [("b", "POSITIVE"), ("a", "POSITIVE"), ("b", "NEGATIVE"), ("c", "odd")]
    ):
        recent.add_label(Record(encode(Feedback(id=message_id, label=label)), number))
    recent.add_label(Record(b"{"))
    assert recent.results["a"].source == position(3)
    assert [(one.seen.id, one.is_right, one.given.at_ms) for one in recent.judgements(9)] == [
        ("b", False, 2),
        ("a", True, 1),
    ]
    assert len(recent.judgements(1)) == 1
    assert recent.is_labelled("a", ("POSITIVE",))
    assert not recent.is_labelled("c", ("POSITIVE",))
    reason = (("__connect.errors.exception.class.name", b"inference_failed"),)
    for value in (encode(TextSubmitted(text="x", id="d")), b"plain", encode(TextSubmitted(text="x"))):
        recent.add_dead_letter(Record(value, headers=reason))
    assert recent.dead_letters == {"d": "inference_failed"}


def test_recent_results_are_bounded() -> None:
    recent = Recent()
    for number in range(MAX_RESULTS + 3):
        recent.add_result(Record(event(str(number), position(number))))
    assert (len(recent.results), next(iter(recent.results))) == (MAX_RESULTS, "3")


@given(st.text())
def test_what_strangers_wrote_is_plain(text: str) -> None:
    """No tag is left in HTML, no mark without its backslash in Markdown, and nothing that steers."""
    assert "<" not in words.card(text).removeprefix("<p").replace("</p>", "").split(">", 1)[1]
    assert words.table(["text"], [[text]]).count("<") == words.table(["text"], [[""]]).count("<")
    shown = words.plain(text)
    assert shown.isprintable()
    bare = shown.replace("\\\\", "").replace("\\", "\0")
    assert all(bare[place - 1 : place] == "\0" for place, char in enumerate(bare) if char in "*_[]<>`$:#|~")


def test_numbers_in_words() -> None:
    rate = Rate(0.9, 0.786, 0.957, 1050)
    assert words.interval(rate) == "78.6 to 95.7 %, from 1,050 labels"
    assert words.interval(rate._replace(n=1)).endswith("from 1 label")
    assert [words.duration(value) for value in (None, 0.0874, 2.34)] == ["-", "87 ms", "2.3 s"]
    assert words.short(None) == "(no longer retained)"
    assert len(words.short("x" * 500)) == words.SHORT_CHARS
    assert len(words.card("x" * (MAX_SHOWN_CHARS + 1))) < MAX_SHOWN_CHARS + 300
    assert charts.in_words("Accuracy", None) == "Accuracy: no labels yet"
    points = [Point(0, p50_s=0.1, p99_s=1.5), Point(5)]
    assert charts.latency_in_words(points) == "Latency: median 100 ms, 99th percentile 1.5 s"


def test_charts_can_be_drawn_of_nothing() -> None:
    """And of points that know something; the axis of accuracies leaves out what nobody needs to see."""
    for points in ([], [Point(0), Point(5, Accuracy("m", Rate(0.87, 0.2, 1, 3), None), 3.0, 0.1, 0.2, 4)]):
        for chart in (charts.accuracy(points), charts.lines(points, {"median": "p50_s", "p99": "p99_s"}, "s")):
            assert chart.to_dict()
    assert charts.mix({"POSITIVE": 0.7}).to_dict()
    [layer, _line] = charts.accuracy(points).to_dict()["layer"]
    assert layer["encoding"]["y"]["scale"]["domain"] == [pytest.approx(0.7), 1]


def test_listeners_are_addresses() -> None:
    settings = AppSettings(listener_urls="http://a:8002, http://b:8002/metrics")
    assert settings.listeners == ["http://a:8002", "http://b:8002"]
