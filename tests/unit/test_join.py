"""The join against a naive recomputation from the set of records, and its definitions one by one."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.join import ORPHAN_AFTER_MS, Join, Outcome, Stream
from feedback_listener.tally import DELAY_UNITS, PROBABILITY_UNITS
from feedback_listener.wire import Refusal, Scored, ScoredBy
from streamgauge.events import Feedback

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOW_MS = 1_800_000_012_345
BEGIN_MS = NOW_MS - 30 * HOUR_MS
WINDOW_MS = 26 * HOUR_MS
SPANS_MS = {"5m": 5 * MINUTE_MS, "1h": HOUR_MS, "24h": DAY_MS, "all": WINDOW_MS}
CLASSES = ("NEGATIVE", "NEUTRAL", "POSITIVE")

Numbers = dict[tuple[object, ...], int]


@dataclass(frozen=True)
class Record:
    """A record of either topic; a refused one has a reason as its value."""

    stream: Stream
    partition: int
    offset: int
    timestamp_ms: int
    value: Scored | Feedback | Refusal


def scored(message_id: str = "a", predicted: int = 2, confidence: float = 0.75, model: str = "1") -> Scored:
    scores = dict.fromkeys(CLASSES, (1 - confidence) / 2) | {CLASSES[predicted]: confidence}
    return Scored(message_id, CLASSES[predicted], scores, ScoredBy("m", model))


def feedback(label: str = "POSITIVE", message_id: str = "a", source: str | None = None) -> Feedback:
    return Feedback(id=message_id, label=label, source=source)


def apply(join: Join, record: Record) -> None:
    at = record.partition, record.offset, record.timestamp_ms
    match record.value:
        case Scored() as value:
            join.add_prediction(*at, value)
        case Feedback() as label:
            join.add_label(*at, label)
        case reason:
            join.refuse(record.stream, *at, reason)


def numbers(join: Join) -> Numbers:
    """Every number of the join that is not zero."""
    found: Numbers = {(outcome,): n for outcome, n in join.outcomes().items()}
    found |= {(stream, reason): n for stream in Stream for reason, n in join.refused(stream).items()}
    found["labels",] = join.labels
    for (model, partition), series in join.series.items():
        for window, tally in zip(SPANS_MS, series.windows, strict=True):
            found[model, partition, window, "predictions"] = tally.predictions
            for cell, amounts in tally.cells.items():
                for name, n in zip(("judged", "confidence", "brier", "delay"), amounts, strict=True):
                    found[model, partition, window, *cell, name] = n
    return {key: n for key, n in found.items() if n}


def retained(records: Iterable[Record], span_ms: int) -> list[Record]:
    return [record for record in records if record.timestamp_ms // MINUTE_MS >= (NOW_MS - span_ms) // MINUTE_MS]


def recompute(records: Sequence[Record]) -> Numbers:
    """The same numbers at NOW_MS, straight from the definitions."""
    found: Counter[tuple[object, ...]] = Counter()
    kept = retained(records, WINDOW_MS)
    in_order = sorted(kept, key=lambda record: (record.timestamp_ms, record.partition, record.offset))
    predictions = [(record, record.value) for record in kept if isinstance(record.value, Scored)]
    labels = [(record, record.value) for record in in_order if isinstance(record.value, Feedback)]
    found["labels",] = len(labels)
    for record in kept:
        if isinstance(record.value, Refusal):
            found[record.stream, record.value] += 1
    for record, label in labels:
        if not any(value.id == label.id for _record, value in predictions):
            is_orphan = record.timestamp_ms // MINUTE_MS < (NOW_MS - WINDOW_MS // 2) // MINUTE_MS
            found[Outcome.ORPHAN if is_orphan else Outcome.WAITING,] += 1
    for message_id in {label.id for _record, label in labels}:
        for earlier, later in pairwise(label for _record, label in labels if label.id == message_id):
            same_source = Outcome.CORRECTION if earlier.source == later.source else Outcome.CONFLICT
            found[Outcome.DUPLICATE if earlier.label == later.label else same_source,] += 1
    for record, value in predictions:
        own = [(at, label.label) for at, label in labels if label.id == value.id]
        known = [(at.timestamp_ms, label) for at, label in own if label in value.scores]
        found[Outcome.UNKNOWN_CLASS,] += len(own) - len(known)
        found[Outcome.JUDGED,] += bool(known)
        for window in (name for name, span_ms in SPANS_MS.items() if record in retained([record], span_ms)):
            series = f"m@{value.model.version}", record.partition, window
            found[*series, "predictions"] += 1
            if known:
                judged_ms, expected = known[-1]
                confidence = value.scores[value.label]
                cell = *series, expected, value.label, 9 if confidence == 1 else int(confidence * 10)
                brier = sum(p * p for p in value.scores.values()) - 2 * value.scores[expected] + 1
                found[*cell, "judged"] += 1
                found[*cell, "confidence"] += round(confidence * PROBABILITY_UNITS)
                found[*cell, "brier"] += round(brier * PROBABILITY_UNITS)
                found[*cell, "delay"] += max(0, judged_ms - record.timestamp_ms) * DELAY_UNITS // 1000
    return {key: n for key, n in found.items() if n}


ids = st.sampled_from("abc")
times = st.one_of(
    st.integers(BEGIN_MS, NOW_MS),
    st.integers(NOW_MS - 6 * MINUTE_MS, NOW_MS),
    st.sampled_from([NOW_MS - span_ms + shift_ms for span_ms in SPANS_MS.values() for shift_ms in (-MINUTE_MS, 0)]),
)
results = st.builds(scored, ids, st.integers(0, 2), st.sampled_from([0.34, 0.5, 0.9, 1.0]), st.sampled_from("12"))
labels = st.builds(feedback, st.sampled_from([*CLASSES, "BORED"]), ids, st.sampled_from([None, "anna", "ben"]))
payloads = st.one_of(results, labels, st.tuples(st.sampled_from(Stream), st.sampled_from(Refusal)))


@st.composite
def record_sets(draw: st.DrawFn) -> list[Record]:
    """Records of two partitions of either topic, each partition in offset order, with gaps as markers leave them."""
    next_offset: Counter[tuple[Stream, int]] = Counter()
    records = []
    for payload, partition, timestamp_ms, gap in draw(
        st.lists(st.tuples(payloads, st.integers(0, 1), times, st.integers(0, 1)), max_size=30)
    ):
        if isinstance(payload, tuple):
            stream, value = payload
        else:
            stream, value = (Stream.RESULTS if isinstance(payload, Scored) else Stream.FEEDBACK), payload
        offset = next_offset[stream, partition] + gap
        next_offset[stream, partition] = offset + 1
        records.append(Record(stream, partition, offset, timestamp_ms, value))
    return records


def interleaved(records: Sequence[Record], choice: random.Random) -> Iterable[Record]:
    """The partitions in any interleaving, each in offset order; now and then one is read again from earlier on."""
    queues: dict[tuple[Stream, int], list[Record]] = {}
    for record in records:
        queues.setdefault((record.stream, record.partition), []).append(record)
    done: dict[tuple[Stream, int], int] = dict.fromkeys(queues, 0)
    while unfinished := [key for key, queue in queues.items() if done[key] < len(queue)]:
        key = choice.choice(unfinished)
        yield queues[key][done[key]]
        done[key] += 1
        if choice.random() < 0.2:
            yield from queues[key][choice.randrange(done[key]) : done[key]]


def joined(records: Sequence[Record], choice: random.Random) -> Join:
    """A join that got these records while time passed."""
    join = Join(WINDOW_MS, BEGIN_MS)
    moments = sorted(choice.randint(BEGIN_MS, NOW_MS) for _ in records)
    for moment_ms, record in zip(moments, interleaved(records, choice), strict=False):
        join.advance(moment_ms)
        apply(join, record)
    if choice.random() < 0.5:
        join.advance(NOW_MS)
    for record in interleaved(records, choice):
        apply(join, record)
    join.advance(NOW_MS)
    return join


@given(record_sets(), st.randoms(use_true_random=False))
def test_numbers_are_a_function_of_the_retained_records(records: list[Record], choice: random.Random) -> None:
    """Whatever the interleaving, the repetitions and the moments of arrival, the numbers are the definitions'."""
    assert numbers(joined(records, choice)) == recompute(records)


@given(record_sets(), st.randoms(use_true_random=False))
def test_nothing_is_left_when_everything_has_expired(records: list[Record], choice: random.Random) -> None:
    """A window after the last record every number is zero, and nothing is kept in memory."""
    join = joined(records, choice)
    join.advance(NOW_MS + WINDOW_MS + MINUTE_MS)
    assert numbers(join) == {}
    assert not join.series
    assert not join._ids
    assert not join._predictions._items
    assert not join._labels._items


class Feed:
    """Applies records at moments that the test chooses, minutes before NOW_MS, with offsets of its own."""

    def __init__(self, window_ms: int = WINDOW_MS) -> None:
        self.join = Join(window_ms, NOW_MS)
        self._offsets: Counter[Stream] = Counter()

    def __call__(self, value: Scored | Feedback, minutes_ago: float = 1) -> "Feed":
        stream = Stream.RESULTS if isinstance(value, Scored) else Stream.FEEDBACK
        apply(self.join, Record(stream, 0, self._offsets[stream], round(NOW_MS - minutes_ago * MINUTE_MS), value))
        self._offsets[stream] += 1
        return self

    @property
    def outcomes(self) -> dict[Outcome, int]:
        return {outcome: n for outcome, n in self.join.outcomes().items() if n}

    @property
    def cells(self) -> dict[tuple[str, str, str], int]:
        """Judged predictions over the whole retention by model, expected and predicted class."""
        return {
            (model, expected, predicted): n
            for (model, _partition), series in self.join.series.items()
            for (expected, predicted, _bin), (n, *_rest) in series.windows[-1].cells.items()
        }


def test_a_label_may_come_before_its_prediction() -> None:
    """It waits, then judges, and its delay is zero."""
    feed = Feed()(feedback("NEGATIVE"), 3)
    assert feed.outcomes == {Outcome.WAITING: 1}
    feed(scored(predicted=2), 2)
    assert feed.outcomes == {Outcome.JUDGED: 1}
    [(_n, _confidence, _brier, delay)] = feed.join.series["m@1", 0].windows[-1].cells.values()
    assert delay == 0


def test_each_prediction_of_an_id_is_judged_under_its_own_model() -> None:
    """A replay with a new model leaves the old model's number alone."""
    feed = Feed()(scored(predicted=2, model="1"))(feedback("POSITIVE"))(scored(predicted=0, model="2"))
    assert feed.cells == {("m@1", "POSITIVE", "POSITIVE"): 1, ("m@2", "POSITIVE", "NEGATIVE"): 1}


def test_the_same_label_again_changes_nothing() -> None:
    """It is counted as a duplicate, and the prediction is still judged once."""
    feed = Feed()(scored())(feedback("POSITIVE"))(feedback("POSITIVE", source="ben"))
    assert feed.outcomes == {Outcome.JUDGED: 1, Outcome.DUPLICATE: 1}
    assert feed.cells == {("m@1", "POSITIVE", "POSITIVE"): 1}


@pytest.mark.parametrize(("source", "outcome"), [("anna", Outcome.CORRECTION), ("ben", Outcome.CONFLICT)])
def test_another_label_retracts_and_judges_again(source: str, outcome: Outcome) -> None:
    """The last label counts; from the same source it is a correction, from another one a conflict."""
    feed = Feed()(scored())(feedback("POSITIVE", source="anna"))(feedback("NEGATIVE", source=source))
    assert feed.cells == {("m@1", "NEGATIVE", "POSITIVE"): 1}
    assert feed.outcomes == {Outcome.JUDGED: 1, outcome: 1}


def test_the_last_label_is_the_one_with_the_latest_broker_time() -> None:
    """A label that is read late but was written early does not take over."""
    feed = Feed()(scored(), 9)(feedback("POSITIVE"), 2)(feedback("NEGATIVE"), 5)
    assert feed.cells == {("m@1", "POSITIVE", "POSITIVE"): 1}


def test_a_label_that_is_no_class_of_the_model_judges_nothing() -> None:
    """It is counted, and a known label before it stays the judge."""
    feed = Feed()(scored())(feedback("POSITIVE"))(feedback("BORED"))
    assert feed.cells == {("m@1", "POSITIVE", "POSITIVE"): 1}
    assert feed.outcomes[Outcome.UNKNOWN_CLASS] == 1


def test_an_unmatched_label_becomes_an_orphan_and_then_leaves() -> None:
    """It waits a day, is an orphan to the end of the window, and is in no number after that."""
    feed = Feed(7 * DAY_MS)(feedback())
    assert feed.outcomes == {Outcome.WAITING: 1}
    feed.join.advance(NOW_MS + ORPHAN_AFTER_MS)
    assert feed.outcomes == {Outcome.ORPHAN: 1}
    feed.join.advance(NOW_MS + 7 * DAY_MS)
    assert feed.outcomes == {}


def test_a_prediction_leaves_the_windows_one_after_the_other() -> None:
    """Five minutes, an hour, a day, the retention: then nothing of it is left."""
    join = Feed(7 * DAY_MS)(scored(), 0)(feedback("POSITIVE"), 0).join
    series = join.series["m@1", 0]
    for span_ms, left in ((4, [1, 1, 1, 1]), (6, [0, 1, 1, 1]), (61, [0, 0, 1, 1]), (1441, [0, 0, 0, 1])):
        join.advance(NOW_MS + span_ms * MINUTE_MS)
        assert [window.predictions for window in series.windows] == left
        assert [len(window.cells) for window in series.windows] == left
    join.advance(NOW_MS + 7 * DAY_MS + MINUTE_MS)
    assert not join.series


def test_no_window_outlasts_the_retention() -> None:
    """With a retention of two hours the last day is these two hours."""
    feed = Feed(2 * HOUR_MS)(scored("a"), 119)(scored("b"), 1)
    feed.join.advance(NOW_MS + 10 * MINUTE_MS)
    assert [window.predictions for window in feed.join.series["m@1", 0].windows] == [0, 1, 1, 1]


def test_time_never_goes_back() -> None:
    """A clock that jumps back revives nothing."""
    join = Feed()(scored()).join
    join.advance(NOW_MS + 2 * WINDOW_MS)
    join.advance(NOW_MS)
    assert join.now_ms == NOW_MS + 2 * WINDOW_MS
    assert not join.series
