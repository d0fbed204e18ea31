"""The accuracy numbers straight from the definitions, by plain code that shares nothing with the listener's.

It keeps every record and counts anew each time it is asked: the oracle of the listener's tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LEAD_MS = 23 * HOUR_MS
PER_ID = 100
"""More of one id are refused."""

Numbers = dict[tuple[object, ...], float]


@dataclass(frozen=True)
class Scored:
    """A record of the results topic; `scores` by class."""

    id: str
    partition: int
    offset: int
    at_ms: int
    label: str
    scores: Mapping[str, float]
    model: str = "m@1"


@dataclass(frozen=True)
class Labelled:
    """A record of the feedback topic."""

    id: str
    partition: int
    offset: int
    at_ms: int
    label: str
    source: str | None = None


@dataclass(frozen=True)
class Refused:
    """A record of `stream` that cannot be read."""

    stream: str
    partition: int
    offset: int
    at_ms: int
    reason: str


Record = Scored | Labelled | Refused


def numbers(records: Iterable[Record], now_ms: int, window_ms: int) -> Numbers:
    """Every exported number that is not zero, by its series' name without `streamgauge_` and its labels' values."""
    records = _with_crowded_refused(list(records))
    found: Numbers = defaultdict(float)
    for window, span_ms in (("5m", 5 * MINUTE_MS), ("1h", HOUR_MS), ("24h", DAY_MS), ("all", window_ms)):
        start_ms = _minute(now_ms - min(span_ms, window_ms))
        for prediction in records:
            if isinstance(prediction, Scored) and prediction.at_ms >= start_ms:
                _count(found, prediction, window, _labels_of(records, prediction))
    for record in records:
        if isinstance(record, Refused) and record.at_ms >= _minute(now_ms - window_ms):
            found[f"{record.stream}_refused", record.partition, record.reason] += 1
        if isinstance(record, Labelled):
            _count_label(found, record, records, now_ms, window_ms)
    return {key: n for key, n in found.items() if n}


def _with_crowded_refused(records: list[Record]) -> list[Record]:
    """A label with PER_ID later ones of its id is refused; so is a prediction with so many later ones in its partition,
    all of which may have a label.
    """
    found: list[Record] = []
    last_label_ms: dict[str, int] = {}
    for record in records:
        if isinstance(record, Labelled):
            last_label_ms[record.id] = max(record.at_ms, last_label_ms.get(record.id, 0))
    ranks: dict[object, int] = defaultdict(int)
    for record in sorted(records, key=lambda record: (record.at_ms, record.partition, record.offset), reverse=True):
        if isinstance(record, Refused):
            found.append(record)
            continue
        stream, place = ("feedback", 0) if isinstance(record, Labelled) else ("results", record.partition)
        if stream == "feedback" or record.at_ms - LEAD_MS <= last_label_ms.get(record.id, -LEAD_MS):
            ranks[stream, record.id, place] += 1
        if ranks[stream, record.id, place] > PER_ID:
            found.append(Refused(stream, record.partition, record.offset, record.at_ms, "crowded_id"))
        else:
            found.append(record)
    return found


def _minute(at_ms: int) -> int:
    return at_ms // MINUTE_MS * MINUTE_MS


def _hour(at_ms: int) -> int:
    return at_ms // HOUR_MS * HOUR_MS


def _labels_of(records: Iterable[Record], prediction: Scored) -> list[Labelled]:
    labels = [
        record
        for record in records
        if isinstance(record, Labelled) and record.id == prediction.id and record.at_ms >= prediction.at_ms - LEAD_MS
    ]
    return sorted(labels, key=lambda label: (label.at_ms, label.partition, label.offset))


def _count(found: Numbers, prediction: Scored, window: str, labels: list[Labelled]) -> None:
    series = prediction.model, prediction.partition, window
    found["predictions", *series] += 1
    known = [label for label in labels if label.label in prediction.scores]
    found["prediction_labels", *series, "unknown_class"] += len(labels) - len(known)
    for earlier, later in pairwise(known):
        other = "correction" if earlier.source == later.source else "conflict"
        found["prediction_labels", *series, "duplicate" if earlier.label == later.label else other] += 1
    if not known:
        return
    judge = known[-1]
    confidence = prediction.scores[prediction.label]
    edge = "0.9" if confidence >= 1 else str(int(confidence * 10) / 10)
    truth = {name: float(name == judge.label) for name in prediction.scores}
    found["judged_predictions", *series, judge.label, prediction.label] += 1
    found["calibration_bin_predictions", *series, edge] += 1
    found["calibration_bin_confidence_sum", *series, edge] += confidence
    found["calibration_bin_correct", *series, edge] += judge.label == prediction.label
    found["brier_sum", *series] += sum((score - truth[name]) ** 2 for name, score in prediction.scores.items())
    found["label_delay_seconds_count", *series] += 1
    found["label_delay_seconds_sum", *series] += max(0, judge.at_ms - prediction.at_ms) / 1000


def _count_label(found: Numbers, label: Labelled, records: Iterable[Record], now_ms: int, window_ms: int) -> None:
    matching_ms = _hour(now_ms - window_ms)
    if label.at_ms < max(_hour(now_ms - 2 * LEAD_MS), matching_ms - LEAD_MS):
        return
    age = "recent" if label.at_ms >= _hour(now_ms - LEAD_MS) else "old"
    found["labels", age] += 1
    partitions = {
        record.partition
        for record in records
        if isinstance(record, Scored)
        and record.id == label.id
        and record.at_ms >= matching_ms
        and label.at_ms >= record.at_ms - LEAD_MS
    }
    for partition in partitions:
        found["matched_labels", partition, age] += 1
