"""The join of labels with predictions: pure, synchronous, and a function of the retained records and of now.

Definitions. Everything else follows from them, whatever order the topics and partitions are read in.

- A record is **retained** while its broker timestamp is not before the minute in which `now - window` lies. What
  is older is in no number. Windows begin at a full minute too: the last hour is 60 to 61 minutes.
- The unit is the **prediction**: a record of the results topic. Two with one id are two predictions.
- The labels of an id are ordered by (broker timestamp, partition, offset). The **judge** of a prediction is the last
  of them that is one of its classes; the others (`unknown_class`, counted once for each prediction) judge nothing.
- A label that follows another of its id in that order is a `duplicate` if it says the same, else a `correction` if
  it has the same source, else a `conflict`.
- A label without a retained prediction of its id is `waiting`, and from ORPHAN_AFTER_MS on (or half the window, if
  that is shorter) an `orphan`: its prediction never came, or has left the window.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from feedback_listener.retained import ById, Label, Prediction, count_unknown, in_order, judge
from feedback_listener.tally import MINUTE_MS, Series
from feedback_listener.wire import Refusal, Scored
from streamgauge.events import Feedback

HOUR_MS = 60 * MINUTE_MS
ORPHAN_AFTER_MS = 24 * HOUR_MS
WINDOWS_MS = {"5m": 5 * MINUTE_MS, "1h": HOUR_MS, "24h": 24 * HOUR_MS}
ALL = "all"
WINDOWS = (*WINDOWS_MS, ALL)


class Stream(StrEnum):
    """The two topics that are read."""

    RESULTS = "results"
    FEEDBACK = "feedback"


class Outcome(StrEnum):
    """What became of labels. Judged and unknown_class count predictions, the others labels."""

    JUDGED = "judged"
    WAITING = "waiting"
    ORPHAN = "orphan"
    UNKNOWN_CLASS = "unknown_class"
    DUPLICATE = "duplicate"
    CORRECTION = "correction"
    CONFLICT = "conflict"


class Snapshot(NamedTuple):
    """The whole retention in three numbers, for a terminal."""

    judged: int
    correct: int
    labels: int


class Join:
    """The state of the join; records of one partition are applied in the order of their offsets, others in any.

    A record at or before the position of its partition was applied already and changes nothing.
    """

    def __init__(self, window_ms: int, now_ms: int) -> None:
        self.window_ms = window_ms
        self.now_ms = now_ms
        self.positions: dict[Stream, dict[int, int]] = {stream: {} for stream in Stream}
        """Next offset by partition: all before it has been applied."""
        self.series: dict[tuple[str, int], Series] = {}
        """By model and results partition; only with retained predictions."""
        self.labels = 0
        """Retained labels."""
        self._starts = self._starts_at(now_ms)
        self._predictions: ById[Prediction] = ById()
        self._labels: ById[Label] = ById()
        self._ids: dict[int, list[str]] = {}
        """The ids of the records of each minute, so that they can leave."""
        self._successions: Counter[Outcome] = Counter()
        self._unmatched: Counter[int] = Counter()
        """Labels without a prediction, by minute."""
        self._refused: Counter[tuple[Stream, Refusal, int]] = Counter()
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    @property
    def horizon_ms(self) -> int:
        """Records from before it are in no number."""
        return self._starts[-1] * MINUTE_MS

    def add_prediction(self, partition: int, offset: int, timestamp_ms: int, scored: Scored) -> None:
        """Apply one record of the results topic."""
        if not self._is_new(Stream.RESULTS, partition, offset, timestamp_ms):
            return
        classes = tuple(scored.scores)
        classes = self._known.setdefault(classes, classes)
        series = self._series_of(f"{scored.model.name}@{scored.model.version}", partition)
        prediction = Prediction(
            series, timestamp_ms, classes, tuple(scored.scores.values()), classes.index(scored.label)
        )
        series.classes.update(classes)
        for tally in series.touched_by(timestamp_ms // MINUTE_MS):
            tally.predictions += 1
        earlier = self._predictions.get(scored.id)
        if labels := self._labels.get(scored.id):
            if not earlier:
                self._match(labels, 1)
            known = [label for label in labels if label.value in classes]
            count_unknown(prediction, len(labels) - len(known))
            if known:
                judge(prediction, known[-1])
        earlier.append(prediction)
        self._predictions.put(scored.id, earlier)
        self._remember(scored.id, timestamp_ms)

    def add_label(self, partition: int, offset: int, timestamp_ms: int, feedback: Feedback) -> None:
        """Apply one record of the feedback topic."""
        if not self._is_new(Stream.FEEDBACK, partition, offset, timestamp_ms):
            return
        label = Label(timestamp_ms, partition, offset, feedback.label, feedback.source)
        labels = self._labels.get(feedback.id)
        at = bisect_left(labels, in_order(label), key=in_order)
        labels.insert(at, label)
        self._count_successions(labels, at)
        self._labels.put(feedback.id, labels)
        self._remember(feedback.id, timestamp_ms)
        self.labels += 1
        predictions = self._predictions.get(feedback.id)
        if not predictions:
            self._match([label], -1)
        for prediction in predictions:
            if label.value not in prediction.classes:
                count_unknown(prediction, 1)
            elif prediction.judge is None or in_order(prediction.judge) < in_order(label):
                judge(prediction, label)

    def refuse(self, stream: Stream, partition: int, offset: int, timestamp_ms: int, reason: Refusal) -> bool:
        """Count a record that cannot be read; false if it was counted before, or is not retained."""
        if not self._is_new(stream, partition, offset, timestamp_ms):
            return False
        self._refused[stream, reason, timestamp_ms // MINUTE_MS] += 1
        return True

    def advance(self, now_ms: int) -> None:
        """Let time pass: windows move on, and what is no longer retained leaves. Time never goes back."""
        self.now_ms = max(self.now_ms, now_ms)
        starts = self._starts_at(self.now_ms)
        if starts == self._starts:
            return
        for series in self.series.values():
            series.leave_behind(starts)
        self._starts[:] = starts
        self.series = {key: series for key, series in self.series.items() if series.windows[-1].predictions}
        horizon = starts[-1]
        expired = [minute for minute in self._ids if minute < horizon]
        for message_id in dict.fromkeys(name for minute in expired for name in self._ids.pop(minute)):
            self._expire(message_id)
        for refused in [key for key in self._refused if key[2] < horizon]:
            del self._refused[refused]
        for minute in [minute for minute in self._unmatched if minute < horizon]:
            del self._unmatched[minute]

    def outcomes(self) -> dict[Outcome, int]:
        """The retained labels by what became of them."""
        orphaned_ms = self.now_ms - min(ORPHAN_AFTER_MS, self.window_ms // 2)
        orphans = sum(n for minute, n in self._unmatched.items() if minute < orphaned_ms // MINUTE_MS)
        totals = [series.windows[-1] for series in self.series.values()]
        counts = {outcome: self._successions[outcome] for outcome in Outcome}
        counts[Outcome.ORPHAN] = orphans
        counts[Outcome.WAITING] = self._unmatched.total() - orphans
        counts[Outcome.UNKNOWN_CLASS] = sum(total.unknown_class for total in totals)
        counts[Outcome.JUDGED] = sum(what[0] for total in totals for what in total.cells.values())
        return counts

    def refused(self, stream: Stream) -> dict[Refusal, int]:
        """The retained records of a topic that could not be read, by reason."""
        counts = dict.fromkeys(Refusal, 0)
        for (of, reason, _minute), n in self._refused.items():
            if of is stream:
                counts[reason] += n
        return counts

    def snapshot(self) -> Snapshot:
        cells = [cell for series in self.series.values() for cell in series.windows[-1].cells.items()]
        judged = sum(what[0] for _cell, what in cells)
        correct = sum(what[0] for (expected, predicted, _bin), what in cells if expected == predicted)
        return Snapshot(judged, correct, self.labels)

    def _starts_at(self, now_ms: int) -> list[int]:
        spans_ms = [*(min(span_ms, self.window_ms) for span_ms in WINDOWS_MS.values()), self.window_ms]
        return [(now_ms - span_ms) // MINUTE_MS for span_ms in spans_ms]

    def _is_new(self, stream: Stream, partition: int, offset: int, timestamp_ms: int) -> bool:
        positions = self.positions[stream]
        if offset < positions.get(partition, 0):
            return False
        positions[partition] = offset + 1
        return timestamp_ms // MINUTE_MS >= self._starts[-1]

    def _series_of(self, model: str, partition: int) -> Series:
        series = self.series.get((model, partition))
        if series is None:
            series = self.series[model, partition] = Series(self._starts)
        return series

    def _remember(self, message_id: str, timestamp_ms: int) -> None:
        self._ids.setdefault(timestamp_ms // MINUTE_MS, []).append(message_id)

    def _match(self, labels: Iterable[Label], sign: int) -> None:
        for label in labels:
            self._unmatched[label.timestamp_ms // MINUTE_MS] -= sign

    def _count_successions(self, labels: list[Label], at: int) -> None:
        """Count what the new label at index `at` follows, and what follows it, instead of what these two were."""
        label = labels[at]
        before, after = labels[at - 1] if at else None, labels[at + 1] if at + 1 < len(labels) else None
        for earlier, later, by in ((before, label, 1), (label, after, 1), (before, after, -1)):
            if earlier and later:
                self._successions[_succession(earlier, later)] += by

    def _expire(self, message_id: str) -> None:
        predictions, labels = self._predictions.get(message_id), self._labels.get(message_id)
        kept = [prediction for prediction in predictions if prediction.timestamp_ms >= self.horizon_ms]
        self._predictions.put(message_id, kept)
        if not labels:
            return
        gone = [label for label in labels if label.timestamp_ms < self.horizon_ms]
        stay = labels[len(gone) :]
        for earlier, later in zip(gone, labels[1:], strict=False):
            self._successions[_succession(earlier, later)] -= 1
        self.labels -= len(gone)
        self._labels.put(message_id, stay)
        if predictions and not kept:
            self._match(stay, -1)
        for prediction in kept:
            count_unknown(prediction, -sum(label.value not in prediction.classes for label in gone))
            # The judge is the last known label: when it is gone, so are all others.
            if prediction.judge and prediction.judge.timestamp_ms < self.horizon_ms:
                judge(prediction, None)


def _succession(earlier: Label, later: Label) -> Outcome:
    if earlier.value == later.value:
        return Outcome.DUPLICATE
    return Outcome.CORRECTION if earlier.source == later.source else Outcome.CONFLICT
