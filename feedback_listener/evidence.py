"""Evidence that a model is less often right than it should be, with a known rate of false alarms: an e-detector.

Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", arXiv 2203.03532.
For each minute a bet is laid against the claim that of its audited predictions as many are right as were promised. Two
claims are watched so. A prediction that nobody labelled in time counts as right: so whoever labels what, and why, no
false alarm comes of it; but where few are labelled, little is found.

- **Level**: the accuracy is p0 or more; `promised` is p0 n. So a drop below a fixed bound is found, as in Podkopaev and
  Ramdas, "Tracking the risk of a deployed model and detecting harmful distribution shifts", arXiv 2110.06177.
- **Concept drift**: the confidences, calibrated and less a tolerance, keep their promise; `promised` is their sum less
  DRIFT_TOLERANCE n. Texts that are only harder lower the promise too, so they are no concept drift.

A claim is made of each minute: an hour of many wrong predictions counts against it, whatever the day was like.

**The bet** is that the odds of being right are a share `o` of the promised ones. With c = promised / n, it multiplies a
stake by

    L = o^right / (1 - c (1 - o))^n

While the claim holds, L is 1 on average or less. Let prediction i of the minute be right with probability q_i or more,
whatever the earlier ones were, and let all q_i add up to `promised`. Then E[o^right] is at most the product of the
1 - q_i (1 - o). Their logarithms are concave in q_i, so the product is greatest where all q_i are c (Jensen; Hoeffding
1956), and there it is (1 - c (1 - o))^n. So the sums of a minute are enough, however much its confidences vary.
Where all are equal, L is the likelihood ratio, and no other bet grows faster when the odds are as it says.

**The detector** is of Shiryaev's and Roberts' kind. Nobody knows when a drop begins, so a new stake of 1 is laid each
minute, predictions or not: M = (1 + M) L. While the claim holds, M after t minutes is t on average or less. So the mean
time to the first M >= A is A minutes at least. The mean over some bets has the same property.

M follows from the minutes alone. Where only a window of them is retained, M lacks the stakes from before the window,
and is never greater than it would be over all minutes: false alarms become fewer, not more.
"""

from collections.abc import Iterable
from math import exp, log, log1p, log10
from typing import NamedTuple

DRIFT_TOLERANCE = 0.02
"""A share of predictions by which the confidences may promise too much."""
ODDS = (0.75, 0.5, 0.25)
"""The bets. At a promise of 80 % they are right at an accuracy of 75 %, 67 % and 50 %; between these little is lost."""
LIMIT_LOG10 = 9.0
"""No stake grows beyond. Of more evidence nobody has any use, and it would delay the end of an alarm for days."""
MINUTES_PER_DAY = 1440

_LIMIT = 10.0**LIMIT_LOG10
_LOG_LIMIT = log(_LIMIT)
"""Of one minute's factor too: so nothing overflows."""
_BETS = tuple((odds, log(odds)) for odds in ODDS)


class Minute(NamedTuple):
    """Audited predictions of one minute; those without a label are right."""

    right: int
    n: int
    promised: float
    """How many would be right at least if the claim held: at most n."""


class Detector:
    """Evidence against a claim since the first minute."""

    def __init__(self) -> None:
        self._stakes = [0.0] * len(ODDS)

    @property
    def log10_evidence(self) -> float:
        """Of M; 0 while it is below 1, LIMIT_LOG10 at most."""
        return log10(max(1.0, sum(self._stakes) / len(ODDS)))

    def advance(self, right: int, n: int, promised: float) -> None:
        """Go on by one minute, which may be empty."""
        self.advance_through([Minute(right, n, promised)])

    def advance_through(self, minutes: Iterable[Minute]) -> None:
        """Go on by these minutes: without a gap, and empty ones too."""
        stakes = self._stakes
        for right, n, promised in minutes:
            if not n:
                stakes[:] = [min(1.0 + stake, _LIMIT) for stake in stakes]
                continue
            mean = promised / n
            for bet, (odds, log_odds) in enumerate(_BETS):
                factor = exp(min(right * log_odds - n * log1p(-mean * (1 - odds)), _LOG_LIMIT))
                stakes[bet] = min((1.0 + stakes[bet]) * factor, _LIMIT)


def evidence(minutes: Iterable[Minute]) -> float:
    """log10 of the evidence at the end of consecutive minutes; see `Detector`. A week of them takes 15 ms."""
    detector = Detector()
    detector.advance_through(minutes)
    return detector.log10_evidence


def threshold_log10(mean_time_between_false_alarms_days: float) -> float:
    """The evidence, as log10, from which on there is an alarm. Raises ValueError where no evidence reaches it."""
    threshold = log10(mean_time_between_false_alarms_days * MINUTES_PER_DAY)
    # One bet at its limit must be enough.
    if threshold > LIMIT_LOG10 - log10(len(ODDS)):
        raise ValueError(f"{mean_time_between_false_alarms_days} days between false alarms are too many")
    return threshold
