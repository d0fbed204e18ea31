"""The listener's numbers counted anew from records, by plain code that shares only their decoding with the listener.

It keeps all records in memory and goes through them once: nothing is added up as they come, nothing retracted. The
definitions are those of `join.py`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from feedback_listener.audit import Terms
from feedback_listener.recount_audit import Audited, audit_values, audited, estimates
from feedback_listener.recount_records import (
    LEAD_MS,
    MINUTE_MS,
    Labelled,
    Predicted,
    TopicRecords,
    Values,
    minute_start,
    series_of,
    windows_of,
)

HOUR_MS = 60 * MINUTE_MS
PER_ID = 100
"""Labels of an id, and labelled predictions of an id in a partition, that take part."""
ADDITIVE_OF_AUDIT = tuple(f"streamgauge_audit_{name}" for name in ("predictions", "judged", "correct"))
DELAY_EDGES_S = (60, 300, 900, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, math.inf)
MODELS, CELLS, NAME_BYTES = 5, 200, 96
"""Exported by name at most, of a partition; see `names.py`."""


def recount(records: TopicRecords, now_ms: int, terms: Terms) -> Values:
    """Every number that follows from records and is not zero, as the listener exports it."""
    found: Values = defaultdict(float)
    retained_ms, matching_ms = minute_start(now_ms - terms.window_ms), _hour(now_ms - terms.window_ms)
    refused = list(records.refused)
    results: list[Predicted] = []
    audit: dict[str, list[Audited]] = defaultdict(list)
    for message_id in records.predictions.keys() | records.labels.keys():
        labels = sorted(records.labels.get(message_id, ()))
        crowded_labels, labels = labels[:-PER_ID], labels[-PER_ID:]
        crowded, predictions = _crowded(records.predictions.get(message_id, ()), labels)
        refused += [(f"streamgauge_{_topic(p)}_refused", p.partition, "crowded_id", p.at_ms) for p in crowded]
        refused += [
            ("streamgauge_feedback_refused", label.partition, "crowded_id", label.at_ms) for label in crowded_labels
        ]
        own = [p for p in predictions if not p.is_audited]
        results += own
        for prediction in own:
            for series in _series(prediction, now_ms, terms.window_ms):
                _count(found, series, prediction, labels)
        for prediction in predictions:
            if prediction.is_audited and prediction.at_ms >= retained_ms:
                audit[prediction.model].append(audited(prediction, labels, terms.maturity_ms))
        matching = [p for p in own if p.at_ms >= matching_ms]
        for label in labels:
            _count_label(found, label, matching, now_ms, matching_ms)
    for series_name, partition, reason, at_ms in refused:
        if at_ms >= retained_ms:
            found[series_of(series_name, partition=partition, reason=reason)] += 1
    found |= estimates(results, audit, now_ms, terms.window_ms)
    exported = _by_exported_names({key: n for key, n in found.items() if n})
    return exported | _of_the_audit(audit, now_ms, terms)


def _of_the_audit(audit: Mapping[str, Sequence[Audited]], now_ms: int, terms: Terms) -> Values:
    """Only of models that are exported by name is more said than what can be added up."""
    models = _first({model: len(own) for model, own in audit.items()})[:MODELS]
    found: Values = defaultdict(float)
    for model, own in audit.items():
        for (name, labels), n in audit_values(model, own, now_ms, terms).items():
            if model in models:
                found[name, labels] = n
            elif name in ADDITIVE_OF_AUDIT and n:
                found[series_of(name, **dict(labels) | {"model": "(other)"})] += n
    return dict(found)


def _topic(prediction: Predicted) -> str:
    return "audit" if prediction.is_audited else "results"


def _by_exported_names(found: Values) -> Values:
    """The same sums with rare models and classes added up, a partition at a time."""
    parts: dict[str, list[tuple[str, dict[str, str], float]]] = defaultdict(list)
    summed: Values = defaultdict(float)
    for (name, labels), n in found.items():
        if "model" in (of := dict(labels)):
            parts[of["partition"]].append((name, of, n))
        else:
            summed[name, labels] = n
    for part in parts.values():
        whole = [(name, of, n) for name, of, n in part if of["window"] == "all"]
        predictions = {of["model"]: n for name, of, n in whole if name == "streamgauge_predictions"}
        models = _first(predictions)[:MODELS]
        judged: dict[tuple[str, str], float] = defaultdict(float)
        matrix = [(of, n) for name, of, n in whole if name == "streamgauge_judged_predictions"]
        for of, n in matrix:
            for label in ("expected", "predicted"):
                judged[of["model"], of[label]] += n if of["model"] in models else 0
        ranked = _first({key: n for key, n in judged.items() if n})
        named = set(ranked)
        while len(_cells(matrix, models, named)) > CELLS and ranked:
            named.remove(ranked.pop())
        for name, of, n in part:
            summed[series_of(name, **_renamed(of, models, named))] += n
    return dict(summed)


def _first(counts: Mapping[Any, float]) -> list[Any]:
    """Keys that are short enough, those of the largest counts first."""
    names = {key: key if isinstance(key, str) else key[-1] for key in counts}
    for reserved in [key for key, name in names.items() if name in {"(other)", "(another)"}]:
        del names[reserved]
    short = [key for key, name in names.items() if len(re.sub(r'[\\"\n]', "xx", name).encode()) <= NAME_BYTES]
    return sorted(short, key=lambda key: (-counts[key], key))


def _cells(matrix: Iterable[tuple[dict[str, str], float]], models: Sequence[str], named: set[Any]) -> set[Any]:
    """Those that are exported, and the diagonal."""
    cells = set()
    for of, _n in matrix:
        names = of["expected"], of["predicted"]
        for expected, predicted in (names, names[:1] * 2, names[1:] * 2):
            cells.add(tuple(_renamed(of | {"expected": expected, "predicted": predicted}, models, named).values()))
    return cells


def _renamed(of: dict[str, str], models: Sequence[str], named: set[Any]) -> dict[str, str]:
    renamed = dict(of)
    for label in ("expected", "predicted"):
        if label in of and (of["model"], of[label]) not in named:
            renamed[label] = "(other)"
    if renamed.get("expected") == renamed.get("predicted") == "(other)" and of["expected"] != of["predicted"]:
        renamed["predicted"] = "(another)"
    if of["model"] not in models:
        renamed["model"] = "(other)"
    return renamed


def _crowded(predictions: Iterable[Predicted], labels: Sequence[Labelled]) -> tuple[list[Predicted], list[Predicted]]:
    """An id's predictions that are crowded out, and the others."""
    crowded: list[Predicted] = []
    others: list[Predicted] = []
    by_partition: dict[tuple[bool, int], list[Predicted]] = defaultdict(list)
    for prediction in predictions:
        has_label = labels and prediction.at_ms - LEAD_MS <= labels[-1].at_ms
        (by_partition[prediction.is_audited, prediction.partition] if has_label else others).append(prediction)
    for labelled in by_partition.values():
        labelled.sort(key=lambda p: (p.at_ms, p.offset))
        crowded += labelled[:-PER_ID]
        others += labelled[-PER_ID:]
    return crowded, others


def _hour(at_ms: int) -> int:
    return at_ms - at_ms % HOUR_MS


def _series(prediction: Predicted, now_ms: int, window_ms: int) -> Iterator[dict[str, str | int]]:
    """The labels of each window that the prediction is in."""
    for window in windows_of(prediction.at_ms, now_ms, window_ms):
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
    add("calibration_bin_confidences", confidence, bin=edge)
    add("calibration_bin_correct", judge.label == prediction.label, bin=edge)
    add("brier_scores", sum((score - (name == judge.label)) ** 2 for name, score in prediction.scores.items()))
    delay_s = max(0, judge.at_ms - prediction.at_ms) / 1000
    add("label_delay_seconds_gcount", 1)
    add("label_delay_seconds_gsum", delay_s)
    for edge_s in DELAY_EDGES_S:
        if delay_s <= edge_s:
            add("label_delay_seconds_bucket", 1, le="+Inf" if edge_s == math.inf else str(float(edge_s)))


def _count_label(
    found: Values, label: Labelled, predictions: Iterable[Predicted], now_ms: int, matching_ms: int
) -> None:
    if label.at_ms < max(_hour(now_ms - 2 * LEAD_MS), matching_ms - LEAD_MS):
        return
    age = "old" if label.at_ms < _hour(now_ms - LEAD_MS) else "recent"
    found[series_of("streamgauge_labels", age=age)] += 1
    for partition in {p.partition for p in predictions if label.at_ms >= p.at_ms - LEAD_MS}:
        found[series_of("streamgauge_matched_labels", age=age, partition=partition)] += 1
