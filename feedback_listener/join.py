"""The join of labels with predictions: pure, and a function of the retained records and of now.

Definitions. Everything else follows from them, whatever order the topics and partitions are read in.

- The unit is the **prediction**: a record of the results topic. Two with one id are two predictions. A record of the
  audit topic is one more, counted apart.
- A prediction is **retained** while its broker timestamp is not before the minute in which `now - window` lies. Windows
  begin at a full minute too: the last hour is 60 to 61 minutes. What is not retained is in no number.
- A label may come LABEL_LEAD_MS before its prediction at most, and any time after it. The labels of a prediction
  are ordered by (broker timestamp, partition, offset). Its **judge** is the last of them that is one of its classes.
- Of its other labels, those that are none of its classes are `unknown_class`. One that follows another of its classes
  is a `duplicate` if it says the same, else a `correction` if it has the same source, else a `conflict`.
- So all that labels do belongs to a prediction, counts in its minute, and leaves with it: nothing that is counted for a
  retained prediction depends on now.
- A minute of audited predictions has **matured** when `maturity` has passed since it ended. Labels that were stamped
  before are **in time**. What sets off an alarm goes by matured minutes, and by the judge among the labels that were in
  time: no later label changes it, unless it crowds one of these out. An audited prediction without a judge is
  **pending**, and **unanswered** when its minute has matured.
- A label is **matched** in each results partition that holds a prediction of its id that it may judge. While it is
  `recent`, younger than LABEL_LEAD_MS, an unmatched label waits: its prediction may come. When it is `old`, from then
  on until twice that age, it is an orphan: its prediction never came, or has left the window. All this goes by whole
  hours: of the label, and of the predictions, which match to the end of the hour in which they leave the window.
- An id is meant to be one message's, so what one id may hold is bounded. Of its labels the last MAX_PER_ID take part.
  Of its predictions that a label may judge, in one results partition, those with the last MAX_PER_ID (broker timestamp,
  offset) do. A record before these is refused as **crowded**, counts as nothing else, and stays so: what crowds it out
  is younger than it, and is retained for longer.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from feedback_listener.audit import AuditMinute
from feedback_listener.records import Kind, LabelRow, PredictionRow, RecordBatch, Refusal, RefusalKey, Stream
from feedback_listener.tally import AUDIT, MINUTE_MS, CountKey, LabelOutcome, Tally, amounts, delay_bucket

HOUR_MS = 60 * MINUTE_MS
LABEL_LEAD_MS = 23 * HOUR_MS
"""An hour less than the topics keep beyond the window, so that no broker has deleted a label that still counts."""
WINDOWS_MS = {"5m": 5 * MINUTE_MS, "1h": HOUR_MS, "24h": 24 * HOUR_MS}
ALL = "all"
WINDOWS = (*WINDOWS_MS, ALL)
MAX_PER_ID = 100
"""A label of an id that everybody uses costs 1 ms a hundred predictions; a message has one or two."""

_time = attrgetter("at_ms")
_time_and_offset = attrgetter("at_ms", "offset")


class Age(StrEnum):
    """How old a label is: its prediction may still come, or not any more."""

    RECENT = "recent"
    OLD = "old"


class Horizons(NamedTuple):
    """For one moment: how far back each thing counts, as the first minute or hour that still does."""

    windows: tuple[int, ...]
    """The first minute of each of WINDOWS."""
    matching_hour: int
    """Of the predictions that match labels."""
    recent_hour: int
    old_hour: int
    """Of the labels of either age."""
    maturity_ms: int
    matured: int
    """The first minute that has not matured."""

    @classmethod
    def at(cls, now_ms: int, window_ms: int, maturity_ms: int) -> "Horizons":
        spans_ms = [*(min(span_ms, window_ms) for span_ms in WINDOWS_MS.values()), window_ms]
        windows = tuple((now_ms - span_ms) // MINUTE_MS for span_ms in spans_ms)
        matching_hour = (now_ms - window_ms) // HOUR_MS
        first_hour = matching_hour - LABEL_LEAD_MS // HOUR_MS
        recent, old = ((now_ms - times * LABEL_LEAD_MS) // HOUR_MS for times in (1, 2))
        ages = max(recent, first_hour), max(old, first_hour)
        return cls(windows, matching_hour, *ages, maturity_ms, (now_ms - maturity_ms) // MINUTE_MS)

    @property
    def retained(self) -> int:
        """The first minute of the predictions that are in any window."""
        return self.windows[-1]

    @property
    def predictions_ms(self) -> int:
        """The time of the oldest predictions that matter."""
        return self.matching_hour * HOUR_MS

    @property
    def labels_ms(self) -> int:
        """The time of the oldest labels that can matter to one of these."""
        return self.predictions_ms - LABEL_LEAD_MS

    def age(self, hour: int) -> Age | None:
        """Of a label of this hour; None when it is too old to wait or to be an orphan."""
        if hour >= self.recent_hour:
            return Age.RECENT
        return Age.OLD if hour >= self.old_hour else None


class Changes:
    """What records do to the numbers: sums to be added, and rows that need not be kept any more."""

    def __init__(self, kinds: Sequence[Kind], horizons: Horizons) -> None:
        self._kinds = kinds
        self._horizons = horizons
        self.tallies: dict[tuple[int, CountKey], Tally] = defaultdict(Tally)
        """By minute and key of the predictions."""
        self.audits: dict[tuple[int, str], AuditMinute] = defaultdict(AuditMinute)
        """By minute and model of the audited predictions."""
        self.labels: Counter[int] = Counter()
        """By hour."""
        self.matches: Counter[tuple[int, int, int]] = Counter()
        """Matched labels by hour of the label, results partition, hour of the latest prediction that matches."""
        self.refusals: Counter[RefusalKey] = Counter()
        self.crowded_predictions: list[PredictionRow] = []
        self.crowded_labels: list[LabelRow] = []
        self.unknown_label: LabelRow | None = None
        """One that is no class of a prediction's model, if any is."""

    def add_batch(self, batch: RecordBatch) -> None:
        """Count records as such, whatever they do to each other."""
        sums: dict[tuple[int, int, int, int], list[int]] = {}
        for p in batch.predictions:
            of = p.at_ms // MINUTE_MS, p.kind, p.partition, p.bin
            counted = sums.get(of)
            if counted is None:
                counted = sums[of] = [0, 0]
            counted[0] += 1
            counted[1] += p.units[p.predicted]
        for (minute, kind, partition, number), (n, confidence) in sums.items():
            if minute >= self._horizons.retained:
                self._score(minute, self._kinds[kind].model, partition, number, n, confidence)
        self.labels.update(label.at_ms // HOUR_MS for label in batch.labels)
        self.refusals.update(batch.refusals)

    def _score(self, minute: int, model: str, partition: int, number: int, n: int, confidence: int) -> None:
        """Count predictions of a minute and bin."""
        key = _key(model, partition)
        self.tallies[minute, key].score(number, n, confidence)
        if key.partition == AUDIT:
            self.audits[minute, model] += AuditMinute(predictions=n, confidence=confidence)

    def judge(self, before: "OneId", after: "OneId") -> None:
        """Retract what the records of an id did before, and count what they do now."""
        self._count(before, -1)
        self._crowd_out(*after.crowded())
        self._count(after, 1)

    def _crowd_out(self, predictions: Iterable[PredictionRow], labels: Iterable[LabelRow]) -> None:
        for prediction in predictions:
            minute = prediction.at_ms // MINUTE_MS
            if minute >= self._horizons.retained:
                model, confidence = self._kinds[prediction.kind].model, prediction.units[prediction.predicted]
                self._score(minute, model, prediction.partition, prediction.bin, -1, -confidence)
                self.refusals[*prediction.refused_in, minute, Refusal.CROWDED_ID] += 1
            self.crowded_predictions.append(prediction)
        for label in labels:
            self.labels[label.at_ms // HOUR_MS] -= 1
            self.refusals[Stream.FEEDBACK, label.partition, label.at_ms // MINUTE_MS, Refusal.CROWDED_ID] += 1
            self.crowded_labels.append(label)

    def _count(self, records: "OneId", sign: int) -> None:
        """The cost is that of predictions and labels, not of their product: predictions share what they can."""
        predictions, labels = records
        firsts = [bisect_left(labels, p.at_ms - LABEL_LEAD_MS, key=_time) for p in predictions]
        verdicts: dict[tuple[int, int], Verdict] = {}
        for prediction, first in zip(predictions, firsts, strict=True):
            minute = prediction.at_ms // MINUTE_MS
            if minute < self._horizons.retained or first == len(labels):
                continue
            kind = self._kinds[prediction.kind]
            verdict = verdicts.get((prediction.kind, first))
            if verdict is None:
                verdict = verdicts[prediction.kind, first] = _verdict(labels[first:], kind.classes)
                self.unknown_label = verdict.unknown or self.unknown_label
            tally = self.tallies[minute, _key(kind.model, prediction.partition)]
            verdict.add_to(tally, prediction, kind.classes, sign)
            if prediction.is_audited and verdict.judge:
                self._count_audited(prediction, kind, verdict.judge, labels[first:], sign)
        self._match(predictions, firsts, labels, sign)

    def _count_audited(
        self, prediction: PredictionRow, kind: Kind, judge: LabelRow, labels: Sequence[LabelRow], sign: int
    ) -> None:
        """A judged prediction of the audit, now and as its labels were when its minute matured."""
        minute = prediction.at_ms // MINUTE_MS
        matures_ms = (minute + 1) * MINUTE_MS + self._horizons.maturity_ms
        in_time = _verdict(labels[: bisect_left(labels, matures_ms, key=_time)], kind.classes).judge
        predicted = kind.classes[prediction.predicted]
        self.audits[minute, kind.model] += AuditMinute(
            judged=sign,
            right=sign * (judge.value == predicted),
            judged_in_time=sign * (in_time is not None),
            right_in_time=sign * (in_time is not None and in_time.value == predicted),
        )

    def _match(
        self, predictions: Sequence[PredictionRow], firsts: Sequence[int], labels: Sequence[LabelRow], sign: int
    ) -> None:
        """A label from `firsts[i]` on is one of prediction i's."""
        by_partition: dict[int, dict[int, int]] = {}
        for prediction, first in zip(predictions, firsts, strict=True):
            if prediction.is_audited:
                continue
            hours = by_partition.setdefault(prediction.partition, {})
            hours[first] = max(prediction.at_ms // HOUR_MS, hours.get(first, 0))
        for partition, hours in by_partition.items():
            latest = 0
            for index, label in enumerate(labels):
                latest = max(latest, hours.get(index, 0))
                if latest >= self._horizons.matching_hour:
                    self.matches[label.at_ms // HOUR_MS, partition, latest] += sign


class OneId(NamedTuple):
    """The records of one id; its labels in their order."""

    predictions: list[PredictionRow]
    labels: list[LabelRow]

    def crowded(self) -> tuple[list[PredictionRow], list[LabelRow]]:
        """Take out, and return, what is beyond MAX_PER_ID."""
        crowded_labels, self.labels[:] = self.labels[:-MAX_PER_ID], self.labels[-MAX_PER_ID:]
        if len(self.predictions) <= MAX_PER_ID or not self.labels:
            return [], crowded_labels
        last_ms = self.labels[-1].at_ms + LABEL_LEAD_MS
        seen: Counter[int] = Counter()
        kept: list[PredictionRow] = []
        crowded: list[PredictionRow] = []
        for prediction in sorted(self.predictions, key=_time_and_offset, reverse=True):
            has_label = prediction.at_ms <= last_ms
            seen[prediction.partition] += has_label
            (crowded if has_label and seen[prediction.partition] > MAX_PER_ID else kept).append(prediction)
        self.predictions[:] = kept
        return crowded, crowded_labels


def _key(model: str, partition: int) -> CountKey:
    return CountKey(model, max(AUDIT, partition))


class Verdict(NamedTuple):
    """What some labels say of every prediction that they are the labels of."""

    judge: LabelRow | None
    unknown: LabelRow | None
    """The last that is no class of the model, if any is."""
    outcomes: Counter[LabelOutcome]

    def add_to(self, tally: Tally, prediction: PredictionRow, classes: Sequence[str], sign: int) -> None:
        """Count it for one prediction of these classes."""
        for outcome, n in self.outcomes.items():
            tally.labels[outcome] += sign * n
        if self.judge:
            expected = classes.index(self.judge.value)
            cell = self.judge.value, classes[prediction.predicted], prediction.bin
            delay_ms = self.judge.at_ms - prediction.at_ms
            tally.add(cell, amounts(prediction.units, prediction.predicted, expected, delay_ms), sign)
            tally.delays[delay_bucket(delay_ms)] += sign


def _verdict(labels: Iterable[LabelRow], classes: Sequence[str]) -> Verdict:
    judge, unknown, outcomes = None, None, Counter[LabelOutcome]()
    for label in labels:
        if label.value not in classes:
            unknown = label
            outcomes[LabelOutcome.UNKNOWN_CLASS] += 1
            continue
        if judge:
            outcomes[_succession(judge, label)] += 1
        judge = label
    return Verdict(judge, unknown, outcomes)


def _succession(earlier: LabelRow, later: LabelRow) -> LabelOutcome:
    if earlier.value == later.value:
        return LabelOutcome.DUPLICATE
    return LabelOutcome.CORRECTION if earlier.source == later.source else LabelOutcome.CONFLICT
