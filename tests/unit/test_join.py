"""The definitions of the join one by one, on a listener's real store."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from feedback_listener.join import LABEL_LEAD_MS, MAX_PER_ID
from feedback_listener.store import StoreUnusable
from tests.replica import Replica
from tests.truth import BESIDE, DAY_MS, HOUR_MS, MINUTE_MS, Labelled, Record, Scored

NOW_MS = 1_800_000_012_345
WINDOW_MS = 7 * DAY_MS


class Feed:
    """Applies records at moments that the test chooses, minutes before NOW_MS, with offsets of its own."""

    def __init__(self, folder: Path) -> None:
        self.replica = Replica(folder / "listener.sqlite", NOW_MS - 2 * DAY_MS, WINDOW_MS)
        self._offsets: Counter[str] = Counter()

    def predict(
        self,
        minutes_ago: float = 1,
        label: str = "POSITIVE",
        model: str = "m@1",
        message_id: str = "a",
        partition: int = 0,
    ) -> "Feed":
        scores = dict.fromkeys(("NEGATIVE", "POSITIVE"), 0.25) | {label: 0.75}
        at_ms = round(NOW_MS - minutes_ago * MINUTE_MS)
        self.replica.apply([Scored(message_id, partition, self._next("results"), at_ms, label, scores, model)], NOW_MS)
        return self

    def label(self, value: str, minutes_ago: float = 1, source: str | None = None, message_id: str = "a") -> "Feed":
        at_ms = round(NOW_MS - minutes_ago * MINUTE_MS)
        self.replica.apply([Labelled(message_id, 0, self._next("feedback"), at_ms, value, source)], NOW_MS)
        return self

    def later(self, span_ms: int) -> "Feed":
        self.replica.apply([], NOW_MS + span_ms)
        return self

    def _next(self, stream: str) -> int:
        self._offsets[stream] += 1
        return self._offsets[stream]

    def of(self, name: str, window: str = "all") -> dict[tuple[object, ...], float]:
        """The series of a name that are not zero, by their labels but the window."""
        found = self.replica.exported().items()
        return {
            tuple(value for value in labels if value != window): n
            for (series, *labels), n in found
            if series == name and (window in labels or name in BESIDE)
        }


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    """A listener with nothing read yet."""
    feed = Feed(tmp_path)
    yield feed
    feed.replica.store.close()


def test_a_label_may_come_before_its_prediction(feed: Feed) -> None:
    """It waits, then judges, and its delay is zero."""
    feed.label("NEGATIVE", 3)
    assert feed.of("labels") == {("recent",): 1}
    assert feed.of("matched_labels") == {}
    feed.predict(2)
    assert feed.of("matched_labels") == {(0, "recent"): 1}
    assert feed.of("judged_predictions") == {("m@1", 0, "NEGATIVE", "POSITIVE"): 1}
    assert feed.of("label_delay_seconds_gsum") == {}


def test_a_label_can_be_too_early(feed: Feed) -> None:
    """More than the lead before its prediction it judges nothing: it could have expired before it."""
    lead_minutes = LABEL_LEAD_MS / MINUTE_MS
    feed.label("NEGATIVE", lead_minutes + 3).predict(2)
    assert feed.of("judged_predictions") == {}
    feed.label("NEGATIVE", lead_minutes + 2)
    assert feed.of("judged_predictions") == {("m@1", 0, "NEGATIVE", "POSITIVE"): 1}


def test_each_prediction_of_an_id_is_judged_under_its_own_model(feed: Feed) -> None:
    """A replay with a new model leaves the old model's number alone."""
    feed.predict(model="m@1").label("POSITIVE").predict(label="NEGATIVE", model="m@2")
    assert feed.of("judged_predictions") == {
        ("m@1", 0, "POSITIVE", "POSITIVE"): 1,
        ("m@2", 0, "POSITIVE", "NEGATIVE"): 1,
    }


def test_the_same_label_again_changes_nothing(feed: Feed) -> None:
    """It is counted as a duplicate, and the prediction is still judged once."""
    feed.predict().label("POSITIVE").label("POSITIVE", source="ben")
    assert feed.of("judged_predictions") == {("m@1", 0, "POSITIVE", "POSITIVE"): 1}
    assert feed.of("prediction_labels") == {("m@1", 0, "duplicate"): 1}


@pytest.mark.parametrize(("source", "outcome"), [("anna", "correction"), ("ben", "conflict")])
def test_another_label_retracts_and_judges_again(feed: Feed, source: str, outcome: str) -> None:
    """The last label counts; from the same source it is a correction, from another one a conflict."""
    feed.predict().label("POSITIVE", source="anna").label("NEGATIVE", source=source)
    assert feed.of("judged_predictions") == {("m@1", 0, "NEGATIVE", "POSITIVE"): 1}
    assert feed.of("prediction_labels") == {("m@1", 0, outcome): 1}


def test_the_last_label_is_the_one_with_the_latest_broker_time(feed: Feed) -> None:
    """A label that is read late but was written early does not take over."""
    feed.predict(9).label("POSITIVE", 2).label("NEGATIVE", 5)
    assert feed.of("judged_predictions") == {("m@1", 0, "POSITIVE", "POSITIVE"): 1}


def test_a_label_that_is_no_class_of_the_model_judges_nothing(feed: Feed) -> None:
    """It is counted, and a known label before it stays the judge."""
    feed.predict().label("POSITIVE").label("BORED")
    assert feed.of("judged_predictions") == {("m@1", 0, "POSITIVE", "POSITIVE"): 1}
    assert feed.of("prediction_labels") == {("m@1", 0, "unknown_class"): 1}


def test_an_unmatched_label_becomes_an_orphan_and_then_leaves(feed: Feed) -> None:
    """While its prediction may come it is recent, for as long again it is old, then it is in no number."""
    feed.label("POSITIVE")
    assert feed.of("labels") == {("recent",): 1}
    feed.later(LABEL_LEAD_MS + HOUR_MS)
    assert feed.of("labels") == {("old",): 1}
    feed.later(2 * LABEL_LEAD_MS + HOUR_MS)
    assert feed.of("labels") == {}


def test_ids_are_told_apart_to_the_last_character(feed: Feed) -> None:
    """Also behind a NUL, where C would end a string."""
    feed.predict(message_id="a\0b").label("POSITIVE", message_id="a\0c").label("POSITIVE", message_id="a\\0b")
    assert feed.of("judged_predictions") == {}
    feed.label("POSITIVE", message_id="a\0b")
    assert feed.of("judged_predictions") == {("m@1", 0, "POSITIVE", "POSITIVE"): 1}


def test_a_prediction_leaves_the_windows_one_after_the_other(feed: Feed) -> None:
    """Five minutes, an hour, a day, the retention: then nothing of it is left."""
    feed.predict(0).label("POSITIVE", 0)
    windows = ("5m", "1h", "24h", "all")
    for minutes, left in ((4, 4), (6, 3), (61, 2), (1441, 1)):
        feed.later(minutes * MINUTE_MS)
        assert [bool(feed.of("predictions", window)) for window in windows] == [False] * (4 - left) + [True] * left
        assert [bool(feed.of("brier_scores", window)) for window in windows] == [False] * (4 - left) + [True] * left
    feed.later(WINDOW_MS + MINUTE_MS)
    assert feed.replica.exported() == {}


def test_no_window_outlasts_the_retention(tmp_path: Path) -> None:
    """With a retention of two hours the last day is these two hours."""
    replica = Replica(tmp_path / "listener.sqlite", NOW_MS, 120 * MINUTE_MS)
    ages = enumerate((119, 1))
    scored = [Scored("a", 0, offset, NOW_MS - age * MINUTE_MS, "x", {"x": 1.0}) for offset, age in ages]
    replica.apply(scored, NOW_MS)
    replica.apply([], NOW_MS + 10 * MINUTE_MS)
    found = {labels[2]: n for (name, *labels), n in replica.exported().items() if name == "predictions"}
    assert found == {"1h": 1, "24h": 1, "all": 1}
    replica.store.close()


def test_a_clock_that_jumps_back_is_noticed(feed: Feed) -> None:
    """What expired meanwhile may have to come back: the store cannot be used any more. A little is forgiven."""
    feed.predict().later(WINDOW_MS).later(WINDOW_MS - MINUTE_MS // 2)
    assert feed.replica.totals.now_ms == NOW_MS + WINDOW_MS
    with pytest.raises(StoreUnusable, match="from the future"):
        feed.later(WINDOW_MS - 2 * MINUTE_MS)


def test_a_label_at_the_edge_of_the_lead_counts_as_long_as_its_prediction(feed: Feed) -> None:
    """In the last minute of the window a correction still knows what it corrects."""
    feed.label("POSITIVE", LABEL_LEAD_MS / MINUTE_MS, source="anna").predict(0)
    feed.later(WINDOW_MS - 2 * MINUTE_MS)
    late = Labelled("a", 0, 9, NOW_MS + WINDOW_MS - 2 * MINUTE_MS, "NEGATIVE", "anna")
    feed.replica.apply([late], NOW_MS + WINDOW_MS - MINUTE_MS)
    assert feed.of("prediction_labels") == {("m@1", 0, "correction"): 1}


def test_an_id_that_everybody_uses_is_bounded(feed: Feed) -> None:
    """Its last hundred labels take part, and its last hundred labelled predictions a partition. Others are refused."""
    count = 4000
    records: list[Record] = [
        Scored("a", n % 2, 10 + n, NOW_MS, "POSITIVE", {"NEGATIVE": 0.25, "POSITIVE": 0.75}) for n in range(count)
    ]
    feed.replica.apply(records, NOW_MS)
    assert sum(feed.of("predictions").values()) == count
    feed.replica.apply(
        [Labelled("a", 0, 10 + n, NOW_MS, ("NEGATIVE", "POSITIVE")[n % 2]) for n in range(count)], NOW_MS
    )
    assert feed.of("judged_predictions") == {("m@1", p, "POSITIVE", "POSITIVE"): MAX_PER_ID for p in (0, 1)}
    assert feed.of("prediction_labels") == {("m@1", p, "correction"): MAX_PER_ID * (MAX_PER_ID - 1) for p in (0, 1)}
    assert feed.of("predictions") == {("m@1", p): MAX_PER_ID for p in (0, 1)}
    assert feed.of("labels") == {("recent",): MAX_PER_ID}
    assert feed.of("matched_labels") == {(p, "recent"): MAX_PER_ID for p in (0, 1)}
    assert feed.of("results_refused") == {(p, "crowded_id"): count / 2 - MAX_PER_ID for p in (0, 1)}
    assert feed.of("feedback_refused") == {(0, "crowded_id"): count - MAX_PER_ID}


def test_a_further_batch_costs_what_an_id_may_hold(feed: Feed) -> None:
    """However many records came before: those that take part are looked at again, not the others."""
    tables = feed.replica.store._tables
    feed.replica.apply(
        [Scored("a", 0, n, NOW_MS, "x", {"x": 1.0}) for n in range(4000)] + [Labelled("a", 0, 0, NOW_MS, "x")], NOW_MS
    )
    with patch.object(tables, "predictions_of", wraps=tables.predictions_of) as predictions_of:
        feed.replica.apply([Scored("a", 0, 4000, NOW_MS, "x", {"x": 1.0})], NOW_MS)
        [found] = [tables.predictions_of(*call.args) for call in predictions_of.call_args_list[:1]]
    assert len(found) == MAX_PER_ID
    assert tables.one("SELECT count(*) FROM predictions") == MAX_PER_ID


def test_predictions_whose_labels_may_still_come_are_not_refused(feed: Feed) -> None:
    """Only those that are judged cost anything: an id without a label may have any number."""
    lead_minutes = LABEL_LEAD_MS / MINUTE_MS
    feed.label("POSITIVE", lead_minutes + 10)
    for n in range(MAX_PER_ID + 3):
        feed.predict(20 if n < MAX_PER_ID + 1 else 5)
    assert feed.of("results_refused") == {(0, "crowded_id"): 1}
    assert feed.of("predictions") == {("m@1", 0): MAX_PER_ID + 2}
    feed.label("POSITIVE")
    assert feed.of("results_refused") == {(0, "crowded_id"): 3}
