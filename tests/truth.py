"""The accuracy numbers straight from the definitions, by plain code that shares nothing with the listener's but the
formulas of intervals and evidence, which have oracles of their own.

It keeps every record and counts anew each time it is asked: the oracle of the listener's tests.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from feedback_listener.confidence_sequence import alpha_each, confidence_sequence
from feedback_listener.evidence import Minute, evidence

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LEAD_MS = 23 * HOUR_MS
PER_ID = 100
"""More of one id are refused."""
MIN_JUDGED = 50
MODELS, CELLS, NAME_BYTES = 5, 200, 96
"""More of one partition are shown as others."""

BESIDE = ("labels", "matched_labels", "results_refused", "feedback_refused", "audit_refused")
"""Numbers that go by no model."""

Numbers = dict[tuple[object, ...], float]


@dataclass(frozen=True)
class Scored:
    """A record of the results or the audit topic; `scores` by class."""

    id: str
    partition: int
    offset: int
    at_ms: int
    label: str
    scores: Mapping[str, float]
    model: str = "m@1"
    is_audited: bool = False
    """It is a record of the audit topic."""


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


def numbers(records: Iterable[Record], now_ms: int, window_ms: int, maturity_ms: int = HOUR_MS) -> Numbers:
    """Every exported number that is not zero, by its series' name without `streamgauge_` and its labels' values."""
    records = _with_crowded_refused(list(records))
    found: Numbers = defaultdict(float)
    judges = {
        id(prediction): _judges(prediction, _labels_of(records, prediction), maturity_ms)
        for prediction in records
        if isinstance(prediction, Scored)
    }
    audit = [p for p in records if isinstance(p, Scored) and p.is_audited and p.at_ms >= _minute(now_ms - window_ms)]
    for window, span_ms in (("5m", 5 * MINUTE_MS), ("1h", HOUR_MS), ("24h", DAY_MS), ("all", window_ms)):
        start_ms = _minute(now_ms - min(span_ms, window_ms))
        for prediction in records:
            if isinstance(prediction, Scored) and prediction.at_ms >= start_ms and not prediction.is_audited:
                _count(found, prediction, window, _labels_of(records, prediction))
                found["estimated_correct", prediction.model, prediction.partition, window] += _estimate(
                    prediction, audit, judges
                )
    for record in records:
        if isinstance(record, Refused) and record.at_ms >= _minute(now_ms - window_ms):
            found[f"{record.stream}_refused", record.partition, record.reason] += 1
        if isinstance(record, Labelled):
            _count_label(found, record, records, now_ms, window_ms)
    return _with_others(found) | _audit_numbers(audit, judges, now_ms, window_ms, maturity_ms)


def _judges(prediction: Scored, labels: list[Labelled], maturity_ms: int) -> tuple[Labelled | None, Labelled | None]:
    """The label that judges now, and the one that did when the prediction's minute matured."""
    known = [label for label in labels if label.label in prediction.scores]
    in_time = [label for label in known if label.at_ms < _minute(prediction.at_ms) + MINUTE_MS + maturity_ms]
    return (known or [None])[-1], (in_time or [None])[-1]  # type: ignore[list-item]


def _estimate(prediction: Scored, audit: list[Scored], judges: Mapping[int, Any]) -> float:
    """The probability that it is right, by the audit of its model and tenth of confidence if that has enough labels."""
    confidence = prediction.scores[prediction.label]
    alike = [
        judges[id(p)][0].label == p.label
        for p in audit
        if p.model == prediction.model and judges[id(p)][0] and _edge(p) == _edge(prediction)
    ]
    return sum(alike) / len(alike) if len(alike) >= MIN_JUDGED else confidence


def _edge(prediction: Scored) -> str:
    confidence = prediction.scores[prediction.label]
    return "0.9" if confidence >= 1 else str(int(confidence * 10) / 10)


def _audit_numbers(
    audit: list[Scored], judges: Mapping[int, Any], now_ms: int, window_ms: int, maturity_ms: int
) -> Numbers:
    """Of every model that is named; of the others together only how many, judged and right."""
    found: Numbers = defaultdict(float)
    sizes = {model: sum(p.model == model for p in audit) for model in {p.model for p in audit}}
    named = sorted((m for m in sizes if _short(m)), key=lambda m: (-sizes[m], m))[:MODELS]
    matured_ms = _minute(now_ms - maturity_ms)
    for window, span_ms in (("5m", 5 * MINUTE_MS), ("1h", HOUR_MS), ("24h", DAY_MS), ("all", window_ms)):
        for p in audit:
            if p.at_ms < _minute(now_ms - min(span_ms, window_ms)):
                continue
            judge, in_time = judges[id(p)]
            model = p.model if p.model in named else "(other)"
            found["audit_predictions", model, window] += 1
            found["audit_judged", model, window] += judge is not None
            found["audit_correct", model, window] += judge is not None and judge.label == p.label
            if model in named and window in ("24h", "all") and p.at_ms < matured_ms:
                found["audit_matured_predictions", model, window] += 1
                found["audit_matured_judged", model, window] += in_time is not None
                found["audit_matured_correct", model, window] += in_time is not None and in_time.label == p.label
    for model in named:
        own = [p for p in audit if p.model == model]
        for p in own:
            name = "audit_unanswered" if p.at_ms < matured_ms else "audit_pending"
            found[name, model] += judges[id(p)][0] is None
        half_ms = window_ms // 2
        start_ms = next(ms for ms in range(0, now_ms + half_ms, half_ms) if ms >= now_ms - window_ms)
        since = [judges[id(p)][0] for p in own if start_ms <= _minute(p.at_ms) < matured_ms]
        right = sum(
            judge.label == p.label
            for p in own
            if start_ms <= _minute(p.at_ms) < matured_ms and (judge := judges[id(p)][0])
        )
        judged = sum(judge is not None for judge in since)
        found["audit_sequence_start_seconds", model] = start_ms / 1000
        found["audit_sequence_predictions", model], found["audit_sequence_judged", model] = len(since), judged
        found["audit_sequence_correct", model] = right
        if judged:
            each = alpha_each(window_ms)
            found["audit_accuracy_low", model] = confidence_sequence(right, len(since), each).low
            found["audit_accuracy_high", model] = confidence_sequence(
                right + len(since) - judged, len(since), each
            ).high
        by_floor, by_promise = [], []
        for minute_ms in range(min(_minute(p.at_ms) for p in own), matured_ms, MINUTE_MS):
            minute = [p for p in own if _minute(p.at_ms) == minute_ms]
            wrong = sum(judge is not None and judge.label != p.label for p in minute if (judge := judges[id(p)][1]))
            n = len(minute)
            by_floor.append(Minute(n - wrong, n, 0.8 * n))
            by_promise.append(Minute(n - wrong, n, max(0, sum(p.scores[p.label] - 0.02 for p in minute))))
        found["audit_level_evidence_log10", model] = evidence(by_floor)
        found["audit_drift_evidence_log10", model] = evidence(by_promise)
    return {key: n for key, n in found.items() if n}


def _with_others(found: Numbers) -> Numbers:
    """Names that are rare in a partition are one name."""
    shown: Numbers = defaultdict(float)
    by_partition = {key[2]: _named(found, key[2]) for key in found if key[0] == "predictions"}
    for (name, *labels), n in found.items():
        if name in BESIDE:
            shown[name, *labels] += n
        else:
            shown[name, *_renamed(labels, *by_partition[labels[1]], name == "judged_predictions")] += n
    return {key: n for key, n in shown.items() if n}


def _named(found: Numbers, partition: object) -> tuple[list[Any], list[Any]]:
    """Models, and classes with their models, that a partition shows."""
    whole = {key: n for key, n in found.items() if key[2:4] == (partition, "all")}
    models = {key[1]: n for key, n in whole.items() if key[0] == "predictions"}
    top = sorted((m for m in models if _short(m)), key=lambda m: (-models[m], m))[:MODELS]
    cells = {key: n for key, n in whole.items() if key[0] == "judged_predictions"}
    weights: dict[tuple[object, object], float] = defaultdict(float)
    for (_name, model, _partition, _window, expected, predicted), n in cells.items():
        weights[model, expected] += n
        weights[model, predicted] += n
    ranked = sorted((c for c in weights if c[0] in top and _short(c[1])), key=lambda c: (-weights[c], c))
    for most in range(len(ranked), -1, -1):
        shown = set()
        for _name, *labels in cells:
            for pair in (labels[3:], [labels[3]] * 2, [labels[4]] * 2):
                shown.add(tuple(_renamed([*labels[:3], *pair], top, ranked[:most], True)))
        if len(shown) <= CELLS:
            break
    return top, ranked[:most]


def _short(name: object) -> bool:
    if name in ("(other)", "(another)"):
        return False
    return sum(2 if character in '\\"\n' else len(character.encode()) for character in str(name)) <= NAME_BYTES


def _renamed(labels: list[Any], models: list[Any], classes: list[Any], is_matrix: bool) -> list[Any]:
    model, *rest = labels
    if is_matrix:
        right = rest[2] == rest[3]
        rest[2:] = [name if (model, name) in classes else "(other)" for name in rest[2:]]
        if rest[2:] == ["(other)", "(other)"] and not right:
            rest[3] = "(another)"
    return [model if model in models else "(other)", *rest]


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
        if isinstance(record, Labelled):
            stream, place = "feedback", 0
        else:
            stream, place = "audit" if record.is_audited else "results", record.partition
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
    edge = _edge(prediction)
    truth = {name: float(name == judge.label) for name in prediction.scores}
    found["judged_predictions", *series, judge.label, prediction.label] += 1
    found["calibration_bin_predictions", *series, edge] += 1
    found["calibration_bin_confidences", *series, edge] += confidence
    found["calibration_bin_correct", *series, edge] += judge.label == prediction.label
    found["brier_scores", *series] += sum((score - truth[name]) ** 2 for name, score in prediction.scores.items())
    delay_s = max(0, judge.at_ms - prediction.at_ms) / 1000
    found["label_delay_seconds_gcount", *series] += 1
    found["label_delay_seconds_gsum", *series] += delay_s
    for most_s in (60, 300, 900, 3600, 21600, 86400, 259200, 604800, math.inf):
        found["label_delay_seconds_bucket", *series, "+Inf" if most_s == math.inf else f"{most_s}.0"] += (
            delay_s <= most_s
        )


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
        and not record.is_audited
        and record.id == label.id
        and record.at_ms >= matching_ms
        and label.at_ms >= record.at_ms - LEAD_MS
    }
    for partition in partitions:
        found["matched_labels", partition, age] += 1
