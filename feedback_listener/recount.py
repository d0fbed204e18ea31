"""The listener's numbers counted anew from records, by plain code that shares only their decoding with the listener.

It keeps all records in memory and goes through them once: nothing is added up as they come, nothing retracted. The
definitions are those of `join.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LEAD_MS = 23 * HOUR_MS
PER_ID = 100
"""Labels of an id, and labelled predictions of an id in a partition, that take part."""
SPANS_MS = {"5m": 5 * MINUTE_MS, "1h": HOUR_MS, "24h": 24 * HOUR_MS}

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
"""A name, and its labels in alphabetical order."""
Values = dict[Series, float]


class Predicted(NamedTuple):
    """A record of the results topic."""

    at_ms: int
    partition: int
    offset: int
    model: str
    label: str
    scores: dict[str, float]


class Labelled(NamedTuple):
    """A record of the feedback topic; their order is that in which they judge."""

    at_ms: int
    partition: int
    offset: int
    label: str
    source: str | None


class TopicRecords:
    """What was read; refused records by series name, partition and reason, with their times."""

    def __init__(self) -> None:
        self.predictions: dict[str, list[Predicted]] = defaultdict(list)
        self.labels: dict[str, list[Labelled]] = defaultdict(list)
        self.refused: list[tuple[str, int, str, int]] = []


def series_of(name: str, **labels: str | int) -> Series:
    return name, tuple(sorted((key, str(value)) for key, value in labels.items()))


def recount(records: TopicRecords, now_ms: int, window_ms: int) -> Values:
    """Every additive number that is not zero, as the listener exports it."""
    found: Values = defaultdict(float)
    retained_ms, matching_ms = _minute(now_ms - window_ms), _hour(now_ms - window_ms)
    refused = list(records.refused)
    for message_id in records.predictions.keys() | records.labels.keys():
        labels = sorted(records.labels.get(message_id, ()))
        crowded_labels, labels = labels[:-PER_ID], labels[-PER_ID:]
        crowded, predictions = _crowded(records.predictions.get(message_id, ()), labels)
        refused += [("streamgauge_results_refused", p.partition, "crowded_id", p.at_ms) for p in crowded]
        refused += [
            ("streamgauge_feedback_refused", label.partition, "crowded_id", label.at_ms) for label in crowded_labels
        ]
        for prediction in predictions:
            for series in _series(prediction, now_ms, window_ms):
                _count(found, series, prediction, labels)
        matching = [p for p in predictions if p.at_ms >= matching_ms]
        for label in labels:
            _count_label(found, label, matching, now_ms, matching_ms)
    for series_name, partition, reason, at_ms in refused:
        if at_ms >= retained_ms:
            found[series_of(series_name, partition=partition, reason=reason)] += 1
    return {key: n for key, n in found.items() if n}


def _crowded(predictions: Iterable[Predicted], labels: Sequence[Labelled]) -> tuple[list[Predicted], list[Predicted]]:
    """An id's predictions that are crowded out, and the others."""
    crowded: list[Predicted] = []
    others: list[Predicted] = []
    by_partition: dict[int, list[Predicted]] = defaultdict(list)
    for prediction in predictions:
        has_label = labels and prediction.at_ms - LEAD_MS <= labels[-1].at_ms
        (by_partition[prediction.partition] if has_label else others).append(prediction)
    for labelled in by_partition.values():
        labelled.sort(key=lambda p: (p.at_ms, p.offset))
        crowded += labelled[:-PER_ID]
        others += labelled[-PER_ID:]
    return crowded, others


def _minute(at_ms: int) -> int:
    return at_ms - at_ms % MINUTE_MS


def _hour(at_ms: int) -> int:
    return at_ms - at_ms % HOUR_MS


def _series(prediction: Predicted, now_ms: int, window_ms: int) -> Iterator[dict[str, str | int]]:
    """The labels of each window that the prediction is in."""
    for window, span_ms in {**SPANS_MS, "all": window_ms}.items():
        if prediction.at_ms >= _minute(now_ms - min(span_ms, window_ms)):
            yield {"model": prediction.model, "partition": prediction.partition, "window": window}


def _count(found: Values, series: dict[str, str | int], prediction: Predicted, labels: Sequence[Labelled]) -> None:
    def add(name: str, n: float, **more: str) -> None:
        found[series_of(f"streamgauge_{name}", **series, **more)] += n

    add("predictions", 1)
    judge: Labelled | None = None
    for label in labels:
        if label.at_ms < prediction.at_ms - LEAD_MS:
            continue
        if label.label not in prediction.scores:
            add("prediction_labels", 1, outcome="unknown_class")
            continue
        if judge is not None:
            change = "correction" if judge.source == label.source else "conflict"
            add("prediction_labels", 1, outcome="duplicate" if judge.label == label.label else change)
        judge = label
    if judge is None:
        return
    confidence = prediction.scores[prediction.label]
    edge = f"{min(int(confidence * 10), 9) / 10}"
    add("judged_predictions", 1, expected=judge.label, predicted=prediction.label)
    add("calibration_bin_predictions", 1, bin=edge)
    add("calibration_bin_confidence_sum", confidence, bin=edge)
    add("calibration_bin_correct", judge.label == prediction.label, bin=edge)
    add("brier_sum", sum((score - (name == judge.label)) ** 2 for name, score in prediction.scores.items()))
    add("label_delay_seconds_count", 1)
    add("label_delay_seconds_sum", max(0, judge.at_ms - prediction.at_ms) / 1000)


def _count_label(
    found: Values, label: Labelled, predictions: Iterable[Predicted], now_ms: int, matching_ms: int
) -> None:
    if label.at_ms < max(_hour(now_ms - 2 * LEAD_MS), matching_ms - LEAD_MS):
        return
    age = "old" if label.at_ms < _hour(now_ms - LEAD_MS) else "recent"
    found[series_of("streamgauge_labels", age=age)] += 1
    for partition in {p.partition for p in predictions if label.at_ms >= p.at_ms - LEAD_MS}:
        found[series_of("streamgauge_matched_labels", age=age, partition=partition)] += 1
