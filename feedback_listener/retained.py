"""What the join keeps of each record, and how a label judges a prediction."""

from operator import attrgetter
from typing import Generic, TypeVar

import msgspec

from feedback_listener.tally import MINUTE_MS, Amounts, Cell, Series, amounts, confidence_bin

T = TypeVar("T")


# Millions of these are kept: gc=False keeps them out of the garbage collector's passes, which would block the
# event loop. It is right because none ever refers back to what holds it.
class Label(msgspec.Struct, gc=False):
    """One retained record of the feedback topic."""

    timestamp_ms: int
    partition: int
    offset: int
    value: str
    source: str | None


class Prediction(msgspec.Struct, gc=False):
    """One retained record of the results topic, with its judge."""

    series: Series
    timestamp_ms: int
    classes: tuple[str, ...]
    scores: tuple[float, ...]
    predicted: int
    judge: Label | None = None


in_order = attrgetter("timestamp_ms", "partition", "offset")


class ById(Generic[T]):
    """Items by message id. Most ids have one item: a list only where there are more saves 90 bytes an id."""

    def __init__(self) -> None:
        self._items: dict[str, T | list[T]] = {}

    def get(self, message_id: str) -> list[T]:
        found = self._items.get(message_id)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    def put(self, message_id: str, items: list[T]) -> None:
        if items:
            self._items[message_id] = items if len(items) > 1 else items[0]
        else:
            self._items.pop(message_id, None)


def count_unknown(prediction: Prediction, labels: int) -> None:
    if labels:
        for tally in prediction.series.touched_by(prediction.timestamp_ms // MINUTE_MS):
            tally.unknown_class += labels


def judge(prediction: Prediction, by: Label | None) -> None:
    """Give a prediction its (other) judge: retract what the one before counted, count what this one says."""
    tallies = prediction.series.touched_by(prediction.timestamp_ms // MINUTE_MS)
    for label, sign in ((prediction.judge, -1), (by, 1)):
        if label:
            cell, what = _judgement(prediction, label)
            for tally in tallies:
                tally.add(cell, what, sign)
    prediction.judge = by


def _judgement(prediction: Prediction, label: Label) -> tuple[Cell, Amounts]:
    classes, scores, predicted = prediction.classes, prediction.scores, prediction.predicted
    expected = classes.index(label.value)
    confidence = scores[predicted]
    cell = classes[expected], classes[predicted], confidence_bin(confidence)
    return cell, amounts(confidence, scores, expected, label.timestamp_ms - prediction.timestamp_ms)
