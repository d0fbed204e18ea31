"""What the listener exports, and how it reads the values of records."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from feedback_listener.decoding import Kinds, decode_records
from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import Kind, LabelRow, PredictionRow, RecordBatch, Refusal, Stream
from feedback_listener.tally import PROBABILITY_UNITS
from streamgauge.events import ModelRef, Position, Prediction, Timings, encode
from tests.replica import Replica, Wire
from tests.truth import DAY_MS, Labelled, Scored

NOW_MS = 1_800_000_012_345


class Exported(Replica):
    """A listener's store, and what is exported of it."""

    def predict(self, offset: int, positive: float, partition: int = 0) -> None:
        scores = {"NEGATIVE": 1 - positive, "POSITIVE": positive}
        label = "POSITIVE" if positive > 0.5 else "NEGATIVE"
        record = Scored(f"{partition}-{offset}", partition, offset, NOW_MS - 30_000, label, scores)
        self.apply([record], NOW_MS)

    def label(self, offset: int, message_id: str, label: str) -> None:
        self.apply([Labelled(message_id, 0, offset, NOW_MS - 20_000, label)], NOW_MS)

    def __call__(self, name: str, window: str = "5m", partition: int = 0, **labels: str) -> float | None:
        where = {"model": "m@1", "partition": str(partition), "window": window}
        return self.registry.get_sample_value(f"streamgauge_{name}", where | labels)


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Exported]:
    """Nothing read yet."""
    exported = Exported(tmp_path / "listener.sqlite", NOW_MS, 7 * DAY_MS)
    yield exported
    exported.store.close()


def test_the_confusion_matrix_is_whole_from_the_first_prediction_on(exported: Exported) -> None:
    """Every pair of classes is there at 0 in every window, so that no rule meets a gap."""
    exported.predict(0, 0.9)
    for window in ("5m", "1h", "24h", "all"):
        assert exported("predictions", window) == 1
        for expected in ("NEGATIVE", "POSITIVE"):
            for predicted in ("NEGATIVE", "POSITIVE"):
                assert exported("judged_predictions", window, expected=expected, predicted=predicted) == 0


def test_no_accuracy_when_nothing_is_judged(exported: Exported) -> None:
    """The sample is absent, and nothing that is exported is not a number."""
    exported.predict(0, 0.9)
    text = generate_latest(exported.registry).decode()
    assert "ml_model_accuracy{" not in text
    assert "NaN" not in text


def test_accuracy_calibration_and_delay_of_known_predictions(exported: Exported) -> None:
    """Three predictions over two partitions, worked out by hand."""
    exported.predict(0, 0.75)
    exported.predict(1, 0.875)
    exported.predict(0, 0.125, partition=1)
    for offset, (message_id, label) in enumerate([("0-0", "POSITIVE"), ("0-1", "NEGATIVE"), ("1-0", "NEGATIVE")]):
        exported.label(offset, message_id, label)
    assert exported("judged_predictions", expected="NEGATIVE", predicted="POSITIVE") == 1
    assert exported("judged_predictions", partition=1, expected="NEGATIVE", predicted="NEGATIVE") == 1
    assert exported("brier_sum") == 2 * 0.25**2 + 2 * 0.875**2
    assert exported("calibration_bin_predictions", bin="0.8") == 1
    assert exported("calibration_bin_confidence_sum", bin="0.8") == 0.875
    assert exported("calibration_bin_correct", bin="0.8") == 0
    assert exported("calibration_bin_correct", partition=1, bin="0.8") == 1
    assert exported("label_delay_seconds_sum") == 20
    assert exported("label_delay_seconds_count") == 2
    accuracy = exported.registry.get_sample_value("ml_model_accuracy", {"model": "m@1", "window": "5m"})
    assert accuracy == pytest.approx(2 / 3)


def test_positions_and_the_time_of_the_numbers(exported: Exported) -> None:
    """Who recomputes the numbers needs the offsets and the now that they are of."""
    exported.predict(41, 0.9)
    position = {"topic": "x.results", "partition": "0"}
    assert exported.registry.get_sample_value("streamgauge_listener_position", position) == 42
    assert exported.registry.get_sample_value("streamgauge_listener_time_seconds") == NOW_MS / 1000


def test_no_number_before_the_topics_are_read(exported: Exported) -> None:
    """While it catches up a listener shows how far it is, and none of the numbers that would be too low."""
    exported.predict(0, 0.9)
    exported.caught_up = False
    names = {metric.name.removeprefix("streamgauge_listener_") for metric in exported.registry.collect()}
    assert names == {"ready", "time_seconds", "position", "lag_records", "store_bytes"}
    assert exported.registry.get_sample_value("streamgauge_listener_ready") == 0


def read_one(stream: Stream, value: bytes | None) -> RecordBatch:
    batch = RecordBatch()
    decode_records([(stream, Wire("t", 0, 0, 0, value))], Kinds(), batch, MinuteLog())
    return batch


def refusals(batch: RecordBatch) -> list[Refusal]:
    return [reason for _stream, _partition, _minute, reason in batch.refusals]


def test_a_result_of_the_worker_can_be_read() -> None:
    """The part that the listener decodes is part of the event that the worker writes."""
    event = Prediction(
        id="a",
        label="POSITIVE",
        score=0.75,
        scores={"NEGATIVE": 0.25, "POSITIVE": 0.75},
        model=ModelRef(name="m", version="1", digest="sha256:0"),
        timings=Timings(tokenize_s=0, queue_s=0, infer_s=0),
        source=Position(topic="t", partition=0, offset=0, timestamp_ms=0),
        tokens=3,
        truncated=False,
    )
    kinds, batch = Kinds(), RecordBatch()
    decode_records([(Stream.RESULTS, Wire("t", 2, 5, 60_000, encode(event)))], kinds, batch, MinuteLog())
    units = [PROBABILITY_UNITS // 4, PROBABILITY_UNITS * 3 // 4]
    assert batch.predictions == [PredictionRow("a", 60_000, 2, 5, 0, 1, 7, units)]
    assert kinds == [Kind("m@1", ("NEGATIVE", "POSITIVE"))]


def test_a_label_can_be_read() -> None:
    """With what orders it among others."""
    batch = RecordBatch()
    value = b'{"id": "a", "label": "POSITIVE", "source": "anna", "at": "yesterday", "more": 1}'
    decode_records([(Stream.FEEDBACK, Wire("t", 2, 5, 60_000, value))], Kinds(), batch, MinuteLog())
    assert batch.labels == [LabelRow(60_000, 2, 5, "a", "POSITIVE", "anna")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Refusal.NULL_VALUE),
        (b"", Refusal.BROKEN_JSON),
        (b"POSITIVE", Refusal.BROKEN_JSON),
        (b'{"id": "\xff", "label": "POSITIVE"}', Refusal.BROKEN_JSON),
        (b'{"id": "a", "label": "POSITIVE", "x": ' + b"[" * 100_000, Refusal.BROKEN_JSON),
        (b'["a", "POSITIVE"]', Refusal.INVALID_FIELD),
        (b'{"id": "a"}', Refusal.INVALID_FIELD),
        (b'{"id": "", "label": "POSITIVE"}', Refusal.INVALID_FIELD),
        (msgspec.json.encode({"id": "a", "label": "x" * 129}), Refusal.INVALID_FIELD),
    ],
)
def test_feedback_that_cannot_be_read_has_a_reason(value: bytes | None, reason: Refusal) -> None:
    """Whatever anyone writes to the feedback topic, it is refused by name and raises nothing."""
    assert refusals(read_one(Stream.FEEDBACK, value)) == [reason]


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "NEUTRAL"},
        {"scores": {}},
        {"scores": {"POSITIVE": 1e300}},
        {"scores": {"POSITIVE": -1}},
        {"model": {}},
    ],
)
def test_a_result_that_cannot_be_judged_is_refused(changed: dict[str, object]) -> None:
    """A label without a score, or a score that is no probability, would spoil the sums."""
    result = {"id": "a", "label": "POSITIVE", "scores": {"POSITIVE": 1}, "model": {"name": "m", "version": "1"}}
    assert read_one(Stream.RESULTS, msgspec.json.encode(result)).predictions
    assert refusals(read_one(Stream.RESULTS, msgspec.json.encode(result | changed))) == [Refusal.INVALID_FIELD]
