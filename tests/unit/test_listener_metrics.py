"""What the listener exports, and how it reads the values of records."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from dashboards.metrics_table import SERIES_A_PARTITION, most_series
from feedback_listener.decoding import Kinds, decode_records
from feedback_listener.minute_log import MinuteLog
from feedback_listener.names import ANOTHER, MAX_CELLS, MAX_MODELS, MAX_NAME_BYTES, OTHER
from feedback_listener.records import Kind, LabelRow, PredictionRow, RecordBatch, Refusal, Stream
from feedback_listener.settings import Shard
from feedback_listener.tally import PROBABILITY_UNITS
from streamgauge.events import ModelRef, Position, Prediction, Timings, encode
from streamgauge.unpacking import Unread
from tests import truth
from tests.replica import Replica, Wire
from tests.truth import DAY_MS, HOUR_MS, Labelled, Record, Scored
from tests.unit.test_sizing import formula

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

    def series(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        """All of a metric: model, partition, window and what else it has, and the number."""
        metrics = [metric for metric in self.registry.collect() if metric.name == f"streamgauge_{name}"]
        return [(tuple(sample.labels.values()), sample.value) for metric in metrics for sample in metric.samples]


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Exported]:
    """Nothing read yet."""
    exported = Exported(tmp_path / "listener.sqlite", NOW_MS, 7 * DAY_MS)
    yield exported
    exported.store.close()


WINDOWS = ("5m", "1h", "24h", "all")


def test_what_does_not_exist_is_not_exported(exported: Exported) -> None:
    """A cell or a bin appears with its first prediction, and then the diagonal at 0: so no rule meets a gap."""
    exported.predict(0, 0.75)
    assert exported.series("judged_predictions") == exported.series("calibration_bin_predictions") == []
    exported.label(0, "0-0", "NEGATIVE")
    cells = {("NEGATIVE", "POSITIVE"): 1, ("NEGATIVE", "NEGATIVE"): 0, ("POSITIVE", "POSITIVE"): 0}
    for window in WINDOWS:
        assert exported("predictions", window) == 1
        found = {key[3:]: n for key, n in exported.series("judged_predictions") if key[2] == window}
        assert found == cells
    assert {key[3:] for key, _n in exported.series("calibration_bin_correct")} == {("0.7",)}


def test_classes_and_models_are_bounded(exported: Exported) -> None:
    """Rare ones are added up as others, whatever is in the topics; no prediction is lost, doubled, or made right."""
    dice = random.Random(1)
    records: list[Record] = []
    audited: list[Record] = []
    judged: Counter[bool] = Counter()
    for offset in range(2000):
        classes = [f"{'x' * 87}{number:03}" for number in range(60)]
        predicted, expected = dice.choices(classes, range(60, 0, -1), k=2)
        scores = dict.fromkeys(classes, 0.01) | {predicted: dice.random()}
        model = f"{'x' * 90}{dice.randrange(8)}@1"
        records.append(Scored(str(offset), 0, offset, NOW_MS - 30_000, predicted, scores, model))
        audited.append(Scored(str(offset), 0, offset, NOW_MS - 30_000, predicted, scores, model, is_audited=True))
        records.append(Labelled(str(offset), 0, offset, NOW_MS - 20_000, expected))
        judged[expected == predicted] += 1
    exported.apply(records, NOW_MS)
    cells = [(key, n) for key, n in exported.series("judged_predictions") if key[2] == "1h"]
    assert sum(n for _key, n in cells) == sum(judged.values())
    assert sum(n for (*_series, expected, predicted), n in cells if expected == predicted) == judged[True]
    assert 150 < len(cells) <= MAX_CELLS
    assert len({key[0] for key, _n in cells}) == MAX_MODELS + 1
    samples = [sample for metric in exported.registry.collect() for sample in metric.samples]
    assert sum({"partition", "window"} <= sample.labels.keys() for sample in samples) <= SERIES_A_PARTITION
    assert len(generate_latest(exported.registry)) < 480_000
    exported.apply(audited, NOW_MS)
    shown = sum(len(metric.samples) for metric in exported.registry.collect())
    assert len(samples) < shown <= most_series(1) - len(Stream), "each partition that is read has its lag, too"


@pytest.mark.parametrize("partitions", [1, 4])
def test_so_many_series_as_the_sizing_page_says(exported: Exported, partitions: int) -> None:
    """With one model of two classes, labels of each bin of confidence in all windows, and the audit of all of it. Lag
    and the process itself are not in this registry.
    """
    records: list[Record] = []
    classes = ("POSITIVE", "NEGATIVE")
    cases = itertools.product((2 * HOUR_MS, 30_000), (0.55, 0.65, 0.75, 0.85, 0.95), classes, classes)
    for number, (age_ms, score, predicted, expected) in enumerate(cases):
        scores = dict.fromkeys(classes, 0.0) | {predicted: score}
        for partition in range(partitions):
            where = f"{partition}-{number}", partition, number, NOW_MS - age_ms
            records += [Scored(*where, predicted, scores, is_audited=is_audited) for is_audited in (False, True)]
            records.append(Labelled(*where, expected))
    exported.apply(records, NOW_MS)
    shown = sum(len(metric.samples) for metric in exported.registry.collect())
    lag = len(Stream) * partitions
    assert shown + lag == eval(formula("series"), {"ceil": ceil}, {"partitions": partitions, "cells": 1})


def test_a_models_name_may_hold_anything(exported: Exported) -> None:
    """Also what ends a text in SQLite's JSON: it leaves its windows as it came, and comes back from the file."""
    for offset, model in enumerate(["a\0b@1", "a\\b@1", "a@1"]):
        scores = {"NEGATIVE": 0.1, "POSITIVE": 0.9}
        exported.apply([Scored(str(offset), 0, offset, NOW_MS - 30_000, "POSITIVE", scores, model)], NOW_MS)
    later_ms = NOW_MS + 6 * 60_000
    exported.apply([], later_ms)
    for _ in range(2):
        found = {(key[0], key[2]): n for key, n in exported.series("predictions")}
        assert {n for (_model, window), n in found.items() if window == "5m"} == {0}
        assert {model for (model, window), n in found.items() if window == "1h" and n == 1} == {
            "a\0b@1",
            "a\\b@1",
            "a@1",
        }
        exported.restart(later_ms)


def test_names_that_are_too_long_are_not_exported(exported: Exported) -> None:
    """Escaped characters count twice; the label and its prediction count nevertheless."""
    longest = "x" * MAX_NAME_BYTES
    for offset, name in enumerate([longest, f"{longest}x", '"' * (MAX_NAME_BYTES // 2 + 1)]):
        for partition, model in enumerate([f"{name.removesuffix('xx')}@1", "m@1"]):
            record = Scored(name, partition, offset, NOW_MS - 30_000, name, {name: 1.0}, model)
            exported.apply([record], NOW_MS)
        exported.label(offset, name, name)
    found = {(*key[:2], *key[3:]): n for key, n in exported.series("judged_predictions")}
    assert found == {
        (f"{longest[:-2]}@1", "0", longest, longest): 1,
        (OTHER, "0", OTHER, OTHER): 2,
        ("m@1", "1", longest, longest): 1,
        ("m@1", "1", OTHER, OTHER): 2,
    }


def test_a_class_with_the_name_of_the_others_is_one_of_them(exported: Exported) -> None:
    """A wrong prediction of it is not taken for a right one of the others."""
    rare = "x" * (MAX_NAME_BYTES + 1)
    records: list[Record] = [
        Scored("a", 0, 0, NOW_MS - 30_000, OTHER, {OTHER: 1.0, rare: 0.0}),
        Labelled("a", 0, 0, NOW_MS - 20_000, rare),
    ]
    exported.apply(records, NOW_MS)
    assert exported("judged_predictions", expected=OTHER, predicted=ANOTHER) == 1
    assert exported.registry.get_sample_value("ml_model_accuracy", {"model": "m@1", "window": "5m"}) == 0
    assert exported.exported() == pytest.approx(truth.numbers(records, NOW_MS, 7 * DAY_MS))


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
    assert exported("brier_scores") == 2 * 0.25**2 + 2 * 0.875**2
    assert exported("calibration_bin_predictions", bin="0.8") == 1
    assert exported("calibration_bin_confidences", bin="0.8") == 0.875
    assert exported("calibration_bin_correct", bin="0.8") == 0
    assert exported("calibration_bin_correct", partition=1, bin="0.8") == 1
    assert exported("label_delay_seconds_gsum") == 20
    assert exported("label_delay_seconds_gcount") == 2
    accuracy = exported.registry.get_sample_value("ml_model_accuracy", {"model": "m@1", "window": "5m"})
    assert accuracy == pytest.approx(2 / 3)


def test_positions_and_the_time_of_the_numbers(exported: Exported) -> None:
    """Who recomputes the numbers needs the offsets and the now that they are of."""
    exported.predict(41, 0.9)
    position = {"topic": "x.results", "partition": "0"}
    assert exported.registry.get_sample_value("streamgauge_listener_position", position) == 42
    assert exported.registry.get_sample_value("streamgauge_listener_time_seconds") == NOW_MS / 1000


def test_a_listener_tells_which_shard_it_is_of_how_many(exported: Exported) -> None:
    """So that one which nobody serves is missed; before it is ready, too."""
    exported.shard, exported.caught_up = Shard(1, 3), False
    labels = {"topic": "x.results", "shard": "1"}
    assert exported.registry.get_sample_value("streamgauge_listener_shards", labels) == 3


def test_no_number_before_the_topics_are_read(exported: Exported) -> None:
    """While it catches up a listener shows how far it is, and none of the numbers that would be too low."""
    exported.predict(0, 0.9)
    exported.caught_up = False
    names = {metric.name.removeprefix("streamgauge_listener_") for metric in exported.registry.collect()}
    assert names == {"ready", "time_seconds", "shards", "position", "lag_records", "store_bytes"}
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
        (Unread(), Refusal.UNREADABLE),
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
