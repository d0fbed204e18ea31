"""The audit's numbers counted anew; see `recount.py`.

The intervals and the evidence are those of the listener: their own tests compare them with other implementations.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from feedback_listener.audit import Terms
from feedback_listener.confidence_sequence import alpha_each, confidence_sequence, sequence_start_ms
from feedback_listener.evidence import DRIFT_TOLERANCE, Minute, evidence
from feedback_listener.recount_records import (
    LEAD_MS,
    MINUTE_MS,
    Labelled,
    Predicted,
    Values,
    minute_start,
    series_of,
    windows_of,
)
from feedback_listener.unlabelled import MIN_JUDGED

DAY_MS = 24 * 60 * MINUTE_MS


class Audited(NamedTuple):
    """One audited prediction: whether it is right as far as is known, and was when its minute matured."""

    at_ms: int
    confidence: float
    is_right: bool | None
    was_right: bool | None


def audited(prediction: Predicted, labels: Sequence[Labelled], maturity_ms: int) -> Audited:
    """`labels` of its id, in their order."""
    verdicts = [
        (label.at_ms, label.label == prediction.label)
        for label in labels
        if label.at_ms >= prediction.at_ms - LEAD_MS and label.label in prediction.scores
    ]
    matures_ms = minute_start(prediction.at_ms) + MINUTE_MS + maturity_ms
    in_time = [is_right for at_ms, is_right in verdicts if at_ms < matures_ms]
    return Audited(
        prediction.at_ms,
        prediction.scores[prediction.label],
        verdicts[-1][1] if verdicts else None,
        in_time[-1] if in_time else None,
    )


def audit_values(model: str, audit: Sequence[Audited], now_ms: int, terms: Terms) -> Values:
    """All that is exported of a model's retained audit."""
    found: Values = defaultdict(float)

    def add(name: str, n: float, **more: str) -> None:
        found[series_of(f"streamgauge_audit_{name}", model=model, **more)] += n

    matured_ms = minute_start(now_ms - terms.maturity_ms)
    for each in audit:
        has_matured = each.at_ms < matured_ms
        if each.is_right is None:
            add("unanswered" if has_matured else "pending", 1)
        for window in windows_of(each.at_ms, now_ms, terms.window_ms):
            add("predictions", 1, window=window)
            add("judged", each.is_right is not None, window=window)
            add("correct", each.is_right is True, window=window)
            if has_matured and window in ("24h", "all"):
                add("matured_predictions", 1, window=window)
                add("matured_judged", each.was_right is not None, window=window)
                add("matured_correct", each.was_right is True, window=window)
    start_ms = sequence_start_ms(now_ms, terms.window_ms)
    add("sequence_start_seconds", start_ms / 1000)
    # Of minutes, not of moments: one that has begun before the sequence is not in it.
    since = [each.is_right for each in audit if start_ms <= minute_start(each.at_ms) < matured_ms]
    right, wrong = since.count(True), since.count(False)
    add("sequence_predictions", len(since))
    add("sequence_judged", right + wrong)
    add("sequence_correct", right)
    if right + wrong:
        low, _high = confidence_sequence(right, len(since), alpha_each(terms.window_ms))
        _low, high = confidence_sequence(len(since) - wrong, len(since), alpha_each(terms.window_ms))
        add("accuracy_low", low)
        add("accuracy_high", high)
    for name, n in _evidence(audit, matured_ms, terms.floor).items():
        add(name, n)
    return {series: n for series, n in found.items() if n}


def _evidence(audit: Iterable[Audited], matured_ms: int, floor: float) -> dict[str, float]:
    minutes: dict[int, list[Audited]] = defaultdict(list)
    for each in audit:
        minutes[minute_start(each.at_ms)].append(each)
    level, drift = [], []
    for minute_ms in range(max(min(minutes), matured_ms - 30 * DAY_MS), matured_ms, MINUTE_MS):
        own = minutes.get(minute_ms, [])
        n, right = len(own), sum(each.was_right is not False for each in own)
        level.append(Minute(right, n, floor * n))
        drift.append(Minute(right, n, max(0.0, sum(each.confidence for each in own) - DRIFT_TOLERANCE * n)))
    return {"level_evidence_log10": evidence(level), "drift_evidence_log10": evidence(drift)}


def estimates(
    results: Iterable[Predicted], audit: Mapping[str, Sequence[Audited]], now_ms: int, window_ms: int
) -> Values:
    """How many results are right: by the accuracy of their confidence bin in the audit, or by their confidence."""
    known: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for model, own in audit.items():
        for each in own:
            if each.is_right is not None:
                known[model, _bin(each.confidence)].append(each.is_right)
    found: Values = defaultdict(float)
    for prediction in results:
        confidence = prediction.scores[prediction.label]
        verdicts = known[prediction.model, _bin(confidence)]
        share = sum(verdicts) / len(verdicts) if len(verdicts) >= MIN_JUDGED else confidence
        for window in windows_of(prediction.at_ms, now_ms, window_ms):
            series = series_of(
                "streamgauge_estimated_correct", model=prediction.model, partition=prediction.partition, window=window
            )
            found[series] += share
    return found


def _bin(confidence: float) -> int:
    return min(int(confidence * 10), 9)
