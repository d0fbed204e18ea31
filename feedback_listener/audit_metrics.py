"""What Prometheus scrapes of the audit. Every listener reads all of it: the numbers are equal, and not to be added."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from feedback_listener.audit import AuditMinute, Claims, Standing, Terms, claims, standing
from feedback_listener.decoding import original
from feedback_listener.join import WINDOWS, Horizons
from feedback_listener.tally import Tally
from feedback_listener.totals import Totals

COUNTED = {
    "predictions": "Predictions that were chosen for the audit.",
    "judged": "Of these, those with a label that judges them.",
    "correct": "Of these, those that are right.",
}
MATURED = {
    "matured_predictions": "Audited predictions of minutes that have matured.",
    "matured_judged": "Of these, those with a label in time.",
    "matured_correct": "Of these, those that were right by that label.",
}
MATURED_WINDOWS = ("24h", "all")
STANDING = {
    "pending": "Audited predictions without a label, of minutes that have not matured.",
    "unanswered": "Audited predictions without a label, of minutes that have matured.",
    "sequence_start_seconds": "Unix time from which on the audited predictions of the confidence sequence are.",
    "sequence_predictions": "Audited predictions in the confidence sequence, of minutes that have matured.",
    "sequence_judged": "Of these, those with a label.",
    "sequence_correct": "Of these, those that are right.",
    "accuracy_low": "Lower end of the confidence sequence (95 % for a year), if all without a label are wrong.",
    "accuracy_high": "Upper end of the confidence sequence, if all without a label are right.",
}
CLAIMS = {
    "level_evidence_log10": "Evidence that the accuracy is below streamgauge_audit_accuracy_floor.",
    "drift_evidence_log10": "Evidence that the accuracy is below what the confidences promise.",
}


class AuditMetrics:
    """What is exported of the audit. Keeps evidence, which takes milliseconds, until minutes that it is of change."""

    def __init__(self) -> None:
        self._claims: dict[str, tuple[object, Claims]] = {}

    def collect(self, tallies: Mapping[tuple[str, str], Tally], totals: Totals, terms: Terms) -> Iterator[Metric]:
        """`tallies` by model, as exported, and window. Only of models that are exported by name is more said."""
        counted = {name: _gauge(name, text, "model", "window") for name, text in {**COUNTED, **MATURED}.items()}
        for (model, window), tally in tallies.items():
            cells = [(expected == predicted, n) for (expected, predicted, _bin), (n, *_sums) in tally.cells.items()]
            sums = tally.predictions, sum(n for _right, n in cells), sum(n for right, n in cells if right)
            for name, n in zip(COUNTED, sums, strict=True):
                counted[name].add_metric((model, window), n)
        of_model = {name: _gauge(name, text, "model") for name, text in {**STANDING, **CLAIMS}.items()}
        for stored, minutes in totals.audits.items():
            if ((model := original(stored)), WINDOWS[-1]) not in tallies:
                continue
            found = standing(minutes, totals.now_ms, totals.horizons.matured, terms)
            for name, value in (_values(found) | self._evidence(stored, totals, terms)).items():
                of_model[name].add_metric((model,), value)
            for window in MATURED_WINDOWS:
                for name, n in zip(MATURED, _matured(minutes, window, totals.horizons), strict=True):
                    counted[name].add_metric((model, window), n)
        yield from (*counted.values(), *of_model.values())
        text = "Evidence from which on there is an alarm."
        yield _gauge("evidence_threshold_log10", text, value=terms.threshold_log10)
        yield _gauge("accuracy_floor", "Accuracy below which there is to be an alarm.", value=terms.floor)
        text = "How long minutes wait for labels until they mature."
        yield _gauge("horizon_seconds", text, value=terms.maturity_ms / 1000)

    def _evidence(self, model: str, totals: Totals, terms: Terms) -> dict[str, float]:
        horizons = totals.horizons
        key = id(totals), horizons.retained, horizons.matured, totals.audit_changes[model]
        known = self._claims.get(model)
        if known is None or known[0] != key:
            known = self._claims[model] = key, claims(totals.audits[model], horizons.matured, terms.floor)
        return dict(zip(CLAIMS, known[1], strict=True))


def _matured(minutes: Mapping[int, AuditMinute], window: str, horizons: Horizons) -> tuple[int, int, int]:
    first = horizons.windows[WINDOWS.index(window)]
    closed = [sums for minute, sums in minutes.items() if first <= minute < horizons.matured]
    return (
        sum(sums.predictions for sums in closed),
        sum(sums.judged_in_time for sums in closed),
        sum(sums.right_in_time for sums in closed),
    )


def _values(found: Standing) -> dict[str, float]:
    """By the names of STANDING. Without a label there is no interval."""
    values = {
        "pending": found.pending,
        "unanswered": found.unanswered,
        "sequence_start_seconds": found.sequence_start_ms / 1000,
        "sequence_predictions": found.sequence_predictions,
        "sequence_judged": found.sequence_judged,
        "sequence_correct": found.sequence_right,
    }
    if found.sequence_judged:
        values |= {"accuracy_low": found.sequence.low, "accuracy_high": found.sequence.high}
    return values


def _gauge(name: str, text: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"streamgauge_audit_{name}", text, value, labels or None)
