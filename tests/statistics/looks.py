"""Streams of audited labels that are looked at each minute: how many ever see their true accuracy excluded."""

from collections.abc import Callable, Mapping
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedback_listener.confidence_sequence import Interval, alpha_each, confidence_sequence, sequence_start_ms

MINUTE_MS = 60_000
WINDOW_MS = 7 * 24 * 60 * MINUTE_MS
HALF_MINUTES = WINDOW_MS // 2 // MINUTE_MS
HALVES_PER_YEAR = ceil(365 * 24 * 60 / HALF_MINUTES)
Z_95 = 1.959963984540054

IntervalOf = Callable[[int, int], Interval]
"""Of right and n."""


class Limits(NamedTuple):
    """With how many right labels the truth is inside the interval: by n, both included."""

    least: NDArray[np.int64]
    most: NDArray[np.int64]

    @classmethod
    def of(cls, interval: IntervalOf, truth: float, most_labels: int) -> "Limits":
        """Asks the interval itself; with one label more, each limit stays or rises by one."""
        least, most = [0], [0]
        for n in range(1, most_labels + 1):
            least.append(least[-1] + (interval(least[-1], n).high < truth))
            most.append(most[-1] + (interval(most[-1] + 1, n).low <= truth))
        return cls(np.array(least), np.array(most))

    def exclude(self, right: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.bool_]:
        excluded: NDArray[np.bool_] = (right < self.least[n]) | (right > self.most[n])
        return excluded


def served(right: int, n: int) -> Interval:
    """What the listener serves."""
    return confidence_sequence(right, n, alpha_each(WINDOW_MS))


def unshared(right: int, n: int) -> Interval:
    """A wrong variant: each start spends the whole year's alpha."""
    return confidence_sequence(right, n, 0.05)


def wilson(right: int, n: int) -> Interval:
    """A wrong variant: the 95 % interval for one look."""
    share, z2 = right / n, Z_95**2
    middle, half = share + z2 / (2 * n), Z_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval((middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n))


def shares_that_exclude(
    intervals: Mapping[str, IntervalOf], labels_per_h: float, truth: float, streams: int, halves: int, seed: int = 1
) -> dict[str, float]:
    """The share of streams in which an interval excludes the truth at one look or more, by name.

    Labels come as a Poisson process, and each is right with the probability `truth`. After a first window all minutes
    of `halves` half windows are looked at, each time at the sequence that is served then.
    """
    dice = np.random.default_rng(seed)
    mean = labels_per_h * WINDOW_MS / MINUTE_MS / 60
    limits = {name: Limits.of(of, truth, round(mean + 10 * sqrt(mean) + 50)) for name, of in intervals.items()}
    excluded = {name: np.zeros(streams, bool) for name in intervals}
    totals = [np.zeros((2, streams), np.int64)]
    rates = np.array([truth, 1 - truth])[:, None, None] * labels_per_h / 60
    for half in range(halves + 2):
        right, wrong = totals[-1][:, :, None] + dice.poisson(rates, (2, streams, HALF_MINUTES)).cumsum(axis=2)
        totals.append(np.array([right[:, -1], wrong[:, -1]]))
        if half >= 2:
            right_before, wrong_before = totals[_start(half)][:, :, None]
            right, wrong = right - right_before, wrong - wrong_before
            for name, limit in limits.items():
                excluded[name] |= limit.exclude(right, right + wrong).any(axis=1)
    return {name: float(of.mean()) for name, of in excluded.items()}


def share_that_excludes_from_the_first(
    interval: IntervalOf, truth: float, labels: int, streams: int, seed: int = 1
) -> float:
    """The same of one sequence that is looked at from its first label on, at each label."""
    dice = np.random.default_rng(seed)
    limits = Limits.of(interval, truth, labels)
    right = (dice.random((streams, labels)) < truth).cumsum(axis=1)
    return float(limits.exclude(right, np.arange(1, labels + 1)).any(axis=1).mean())


def _start(half: int) -> int:
    """The half window at whose beginning the sequence began that is served at each minute's end of this one."""
    half_ms = HALF_MINUTES * MINUTE_MS
    starts = {sequence_start_ms(half * half_ms + minute * MINUTE_MS, WINDOW_MS) for minute in (1, HALF_MINUTES)}
    assert len(starts) == 1
    return starts.pop() // half_ms
