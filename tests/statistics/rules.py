"""Alerts on proportions, simulated: how often each fires in a year in which all is well, and how late after a fault.

The conditions are those of `dashboards/rules`, at one look a minute. Prometheus looks more often, so what is counted
here is the least. Events are independent of each other: a burst of bad ones is a fault, not a false alarm.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.statistics.alerting import Conditions, episodes, held, window_sums

YEAR_MINUTES = 365 * 24 * 60
WINDOWS = (5, 60, 1440)
EASY, HARD = 0.98, 0.7
"""Confidences; two thirds of the texts are easy."""
BATCH = 4

Counts = NDArray[np.int64]
"""Minutes x streams."""


class Kind(NamedTuple):
    """Events of one kind."""

    per_h: float
    bad_share: float
    confidence: float = 0.0


class Happened(NamedTuple):
    """Of one kind."""

    bad: Counts
    n: Counts
    confidence: float


Rule = Callable[[Sequence[Happened]], list[Conditions]]
"""Where an alert fires, once for each of its label sets."""


def happen(kinds: Sequence[Kind], minutes: int, streams: int, dice: np.random.Generator) -> list[Happened]:
    """Poisson processes."""
    found = []
    for per_h, share, confidence in kinds:
        bad, good = (dice.poisson(per_h / 60 * part, (minutes, streams)) for part in (share, 1 - share))
        found.append(Happened(bad, bad + good, confidence))
    return found


def texts(per_h: float, loss: float) -> list[Kind]:
    """Predictions whose labels are wrong as often as their confidences say, and by `loss` more."""
    easy, hard = per_h * 2 / 3, per_h / 3
    return [Kind(easy, 1 - EASY + loss, EASY), Kind(hard, 1 - HARD + loss, HARD)]


def wilson_upper(share: NDArray[np.float64], n: Counts, z: float = 1.96) -> NDArray[np.float64]:
    """As `streamgauge:accuracy_wilson_upper:ratio`."""
    upper: NDArray[np.float64] = (share + z**2 / (2 * n) + z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))) / (
        1 + z**2 / n
    )
    return upper


def accuracy_low(happened: Sequence[Happened]) -> list[Conditions]:
    """StreamgaugeAccuracyLow, as it was: on all labels, three windows, Wilson's upper bound, 20 labels."""
    bad, n = happened[0].bad, happened[0].n
    found = []
    for window in WINDOWS:
        judged = window_sums(n, window)
        share = 1 - window_sums(bad, window) / np.maximum(judged, 1)
        found.append(held((wilson_upper(share, np.maximum(judged, 1)) < 0.8) & (judged >= 20), 5))
    return found


def collapse(floor: float = 0.8) -> Rule:
    """StreamgaugeAccuracyCollapsed: 20 audited labels or more, matured or not, that are 13 nats below the floor."""

    def rule(happened: Sequence[Happened]) -> list[Conditions]:
        found = []
        for window in (5, 60):
            judged = window_sums(happened[0].n, window)
            accuracy = 1 - window_sums(happened[0].bad, window) / np.maximum(judged, 1)
            shortfall = judged * (
                accuracy * np.log(np.maximum(accuracy, 1e-9) / floor)
                + (1 - accuracy) * np.log(np.maximum(1 - accuracy, 1e-9) / (1 - floor))
            )
            found.append((accuracy < floor) & (shortfall > 13) & (judged >= 20))
        return found

    return rule


def confidence_diverges(happened: Sequence[Happened]) -> list[Conditions]:
    """StreamgaugeConfidenceDiverges: by 10 points beyond Wilson's upper bound, 100 labels, an hour or a day."""
    found = []
    for window in (60, 1440):
        parts = [(window_sums(of.bad, window), window_sums(of.n, window), of.confidence) for of in happened]
        bad, n = sum(part[0] for part in parts), np.maximum(sum(part[1] for part in parts), 1)
        confidence = sum(part[1] * part[2] for part in parts) / n
        found.append(held((confidence - wilson_upper(1 - bad / n, n) > 0.1) & (n >= 100), 10))
    return found


def share_above(above: float, window: int, hold: int = 0, z: float = 0, least: int = 1, least_bad: int = 0) -> Rule:
    """Of a window's events more than a share is bad, by more than z standard errors; they are `least` at least."""

    def rule(happened: Sequence[Happened]) -> list[Conditions]:
        bad, n = window_sums(happened[0].bad, window), window_sums(happened[0].n, window)
        beyond = bad > above * n + z * np.sqrt(above * (1 - above) * n)
        return [held(beyond & (n >= least) & (bad >= least_bad), hold)]

    return rule


def burns(above: float, long: int, short: int, hold: int) -> Rule:
    """StreamgaugeLatencyBudgetBurns and …Fast: over two windows at once."""

    def rule(happened: Sequence[Happened]) -> list[Conditions]:
        both = [share_above(above, window)(happened)[0] for window in (long, short)]
        return [held(both[0] & both[1], hold)]

    return rule


class Alert(NamedTuple):
    """A rule as it is proposed, and what is healthy: where chance is greatest first."""

    rule: Rule
    healthy: Sequence[Sequence[Kind]]
    keep_firing_minutes: int = 5


def _kinds(rates_per_h: Sequence[float], share: float) -> list[list[Kind]]:
    return [[Kind(rate, share)] for rate in rates_per_h]


LABELS_PER_H = (20, 100, 300, 1000)
TEXTS_PER_H = (3600, 36_000, 360_000)
"""1, 10 and 100 a second; more make chance smaller still."""
ORPHANS_MINUTES = 23 * 60
HEALTHY = {
    "AccuracyCollapsed, at a floor of 80 %": Alert(collapse(), _kinds((300, 20, 50, 100, 1000), 0.2), 30),
    "AccuracyCollapsed, at a floor of 95 %": Alert(collapse(0.95), _kinds((300, 20, 50, 100, 1000), 0.05), 30),
    "ConfidenceDiverges, calibrated": Alert(confidence_diverges, [texts(rate, 0) for rate in LABELS_PER_H]),
    "LabelsUnmatched, half of them": Alert(
        share_above(0.5, ORPHANS_MINUTES, 30, z=4, least=20), _kinds((20, 1, 5, 100), 0.5)
    ),
    "DeadLetters, 5 %": Alert(share_above(0.05, 5, 5, z=4, least_bad=11), _kinds(TEXTS_PER_H, 0.05)),
    "LatencyHigh, 5 % slow": Alert(share_above(0.05, 5, 5, z=4, least_bad=1), _kinds(TEXTS_PER_H, 0.05)),
    "LatencyBudgetBurnsFast, 1 % slow": Alert(burns(0.144, 60, 5, 2), _kinds(TEXTS_PER_H, 0.01)),
    "LatencyBudgetBurns, 1 % slow": Alert(burns(0.06, 360, 30, 15), _kinds(TEXTS_PER_H, 0.01)),
    "TransactionsFail, 1 % of them": Alert(share_above(0.1, 5, 10), _kinds((3600, 36_000), 0.01)),
}
"""Each at or near the share that it asks for, the worst that is still healthy."""


def false_alarms_a_year(rule: Rule, kinds: Sequence[Kind], years: int, keep_firing_minutes: int = 5) -> float:
    """Episodes of all label sets."""
    dice = np.random.default_rng(1)
    found = 0
    for _batch in range(years // BATCH):
        fires = rule(happen(kinds, YEAR_MINUTES, BATCH, dice))
        found += sum(episodes(of, keep_firing_minutes) for of in fires)
    return found / (years // BATCH * BATCH)


def delay_minutes(
    rule: Rule, before: Sequence[Kind], after: Sequence[Kind], days: int = 7, streams: int = 100
) -> float:
    """The median time from a fault to the alert; infinite if most see none within `days`."""
    dice = np.random.default_rng(2)
    warm = 1440
    parts = [happen(before, warm, streams, dice), happen(after, days * 1440, streams, dice)]
    joined = [
        Happened(np.concatenate([was.bad, now.bad]), np.concatenate([was.n, now.n]), was.confidence)
        for was, now in zip(*parts, strict=True)
    ]
    fires = np.any(rule(joined), axis=0)[warm:]
    return float(np.median(np.where(fires.any(axis=0), fires.argmax(axis=0) + 1, np.inf)))
