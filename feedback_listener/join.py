"""The join of labels with predictions: pure, and a function of the retained records and of now.

Definitions. Everything else follows from them, whatever order the topics and partitions are read in.

- The unit is the **prediction**: a record of the results topic. Two with one id are two predictions.
- A prediction is **retained** while its broker timestamp is not before the minute in which `now - window` lies. Windows
  begin at a full minute too: the last hour is 60 to 61 minutes. What is not retained is in no number.
- A label may come LABEL_LEAD_MS before its prediction at most, and any time after it. The labels of a prediction
  are ordered by (broker timestamp, partition, offset). Its **judge** is the last of them that is one of its classes.
- Of its other labels, those that are none of its classes are `unknown_class`. One that follows another of its classes
  is a `duplicate` if it says the same, else a `correction` if it has the same source, else a `conflict`.
- So all that labels do belongs to a prediction, counts in its minute, and leaves with it: nothing that is counted for a
  retained prediction depends on now.
- A label is **matched** in each results partition that holds a retained prediction of its id that it may judge. While
  it is `recent`, younger than LABEL_LEAD_MS, an unmatched label waits: its prediction may come. When it is `old`, from
  then on until twice that age, it is an orphan: its prediction never came, or has left the window.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from feedback_listener.tally import MINUTE_MS, Outcome, Tally, amounts

HOUR_MS = 60 * MINUTE_MS
LABEL_LEAD_MS = 23 * HOUR_MS
"""An hour less than the topics keep beyond the window, so that no broker has deleted a label that still counts."""
WINDOWS_MS = {"5m": 5 * MINUTE_MS, "1h": HOUR_MS, "24h": 24 * HOUR_MS}
ALL = "all"
WINDOWS = (*WINDOWS_MS, ALL)


class Stream(StrEnum):
    """The two topics that are read."""

    RESULTS = "results"
    FEEDBACK = "feedback"


class Age(StrEnum):
    """How old a label is: its prediction may still come, or not any more."""

    RECENT = "recent"
    OLD = "old"


class Kind(NamedTuple):
    """What predictions share: the model's name and version, and its classes in the order of the scores."""

    model: str
    classes: tuple[str, ...]


class Prediction(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One record of the results topic. `kind` is a number by agreement with who made it."""

    id: str
    at_ms: int
    partition: int
    offset: int
    kind: int
    predicted: int
    """Index of the predicted class."""
    bin: int
    units: list[int]
    """Scores in PROBABILITY_UNITS, class by class."""


class Label(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One record of the feedback topic; labels are ordered as they judge."""

    at_ms: int
    partition: int
    offset: int
    id: str
    value: str
    source: str | None


class Starts(NamedTuple):
    """The first minutes, at some moment, of everything that is counted."""

    windows: tuple[int, ...]
    """Of each of WINDOWS."""
    labels: int
    """Of the labels that can matter to a retained prediction."""
    recent: int
    old: int
    """Of the labels of either age."""

    @classmethod
    def at(cls, now_ms: int, window_ms: int) -> "Starts":
        spans_ms = [*(min(span_ms, window_ms) for span_ms in WINDOWS_MS.values()), window_ms]
        windows = tuple((now_ms - span_ms) // MINUTE_MS for span_ms in spans_ms)
        labels = windows[-1] - LABEL_LEAD_MS // MINUTE_MS
        recent, old = ((now_ms - times * LABEL_LEAD_MS) // MINUTE_MS for times in (1, 2))
        return cls(windows, labels, max(recent, labels), max(old, labels))

    @property
    def retained(self) -> int:
        """Of the predictions that are in any number."""
        return self.windows[-1]

    def age(self, minute: int) -> Age | None:
        """Of a label of this minute; None when it is too old to wait or to be an orphan."""
        if minute >= self.recent:
            return Age.RECENT
        return Age.OLD if minute >= self.old else None


class Changes:
    """What records do to the numbers: sums to be added per minute, and matches."""

    def __init__(self, kinds: Sequence[Kind], starts: Starts) -> None:
        self._kinds = kinds
        self._starts = starts
        self.tallies: dict[tuple[int, str, int], Tally] = defaultdict(Tally)
        """By minute of the predictions, model and results partition."""
        self.matches: Counter[tuple[int, int, int]] = Counter()
        """Matched labels by minute of the label, results partition, minute of the latest prediction that matches."""

    def add_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count predictions as such, whatever their labels."""
        counts = Counter((p.at_ms // MINUTE_MS, p.kind, p.partition) for p in predictions)
        for (minute, kind, partition), n in counts.items():
            self.tallies[minute, self._kinds[kind].model, partition].predictions += n

    def count(self, predictions: Sequence[Prediction], labels: Sequence[Label], sign: int) -> None:
        """Count what the labels of one id do, or with sign -1 retract it; the labels in their order."""
        matched: dict[tuple[int, int], int] = {}
        for prediction in predictions:
            minute = prediction.at_ms // MINUTE_MS
            if minute < self._starts.retained:
                continue
            first = bisect_left(labels, prediction.at_ms - LABEL_LEAD_MS, key=lambda label: label.at_ms)
            if first == len(labels):
                continue
            kind = self._kinds[prediction.kind]
            tally = self.tallies[minute, kind.model, prediction.partition]
            _count_labels(tally, prediction, kind.classes, labels[first:], sign)
            for index in range(first, len(labels)):
                key = prediction.partition, index
                matched[key] = max(minute, matched.get(key, 0))
        for (partition, index), minute in matched.items():
            self.matches[labels[index].at_ms // MINUTE_MS, partition, minute] += sign


def _count_labels(
    tally: Tally, prediction: Prediction, classes: Sequence[str], labels: Sequence[Label], sign: int
) -> None:
    judge = None
    for label in labels:
        if label.value not in classes:
            tally.labels[Outcome.UNKNOWN_CLASS] += sign
            continue
        if judge:
            tally.labels[_succession(judge, label)] += sign
        judge = label
    if judge:
        expected = classes.index(judge.value)
        cell = judge.value, classes[prediction.predicted], prediction.bin
        what = amounts(prediction.units, prediction.predicted, expected, judge.at_ms - prediction.at_ms)
        tally.add(cell, what, sign)


def _succession(earlier: Label, later: Label) -> Outcome:
    if earlier.value == later.value:
        return Outcome.DUPLICATE
    return Outcome.CORRECTION if earlier.source == later.source else Outcome.CONFLICT
