"""How right a model is, as an interval that may be looked at for ever: a confidence sequence.

A 95 % interval such as Wilson's is honest for one look. Whoever looks every minute sees it miss the truth sooner or
later. A confidence sequence holds at all looks at once: with probability 1 - alpha, the truth lies in every one of its
intervals. This one is the beta-binomial mixture of Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric,
nonasymptotic confidence sequences", Annals of Statistics 49 (2021). It asks of audited predictions only that each is
right with the same probability, whatever the earlier ones were. It depends on two counts alone, so shards add up.

A sequence whose start slides is void, because each start is one more chance to be wrong. But only a window of records
is retained. So the starts are fixed moments, half a window apart, and what may go wrong in a year is shared out among
the starts of a year.
"""

from math import ceil, lgamma, log, log1p
from typing import NamedTuple

YEAR_MS = 365 * 24 * 60 * 60 * 1000
YEARLY_ALPHA = 0.05
"""The probability that the intervals of one model, all that are served in a year, exclude the truth once or more."""
_HALVINGS = 60
"""More than a float has digits."""


class Interval(NamedTuple):
    """Of shares, 0 to 1."""

    low: float
    high: float


def confidence_sequence(right: int, n: int, alpha: float, unknown: int = 0) -> Interval:
    """All accuracies that `right` of `n` predictions do not speak against, at level `alpha` (0 to 1, both excluded).

    Of `unknown` more of the n it is not known whether they are right. The interval then holds all intervals that may
    be true: whoever chose which of them have a label, and by what, it does not leave out the truth more often.

    These are all p with B(1 + right, 1 + wrong) / (p^right (1 - p)^wrong) < 1 / alpha. The left side is a bet against
    p that starts at 1 and is fair if p is the truth: by Ville's inequality it ever reaches 1 / alpha with probability
    alpha at most. The mixture is uniform (a = b = 1), because nothing is known of the accuracy beforehand. right / n
    is always inside. Without labels it is all from 0 to 1.

    The ends are exact to 1e-9 up to n = 10^9.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    return Interval(_low(right, n, alpha), 1 - _low(n - right - unknown, n, alpha))


def _low(right: int, n: int, alpha: float) -> float:
    """The lower end, by bisection between 0 and the mean: in between the likelihood only rises."""
    if right == 0:
        return 0.0
    wrong = n - right
    least = lgamma(right + 1) + lgamma(wrong + 1) - lgamma(n + 2) + log(alpha)
    outside, inside = 0.0, right / n
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        # Nothing wrong: 0 times the logarithm of 0 would be no number.
        likelihood = right * log(middle) + (wrong * log1p(-middle) if wrong else 0)
        if likelihood > least:
            inside = middle
        else:
            outside = middle
    return outside


def sequence_start_ms(now_ms: int, window_ms: int) -> int:
    """Where the sequence begins that is served now: of the predictions from then on it may speak, of none before.

    It is the first multiple of half a window since the epoch that is not older than a window. So the sequence holds
    half a window of predictions at least, and a window at most; or all of a model that is younger.
    """
    half_ms = window_ms // 2
    return -((window_ms - now_ms) // half_ms) * half_ms


def alpha_each(window_ms: int) -> float:
    """What each start may spend of YEARLY_ALPHA: in a year, sequences of so many starts are served."""
    starts = ceil(YEAR_MS / (window_ms // 2)) + 1
    return YEARLY_ALPHA / starts
