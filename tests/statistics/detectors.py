"""Simulated model-years under the e-detector: many streams at once, a minute at a time, with its own bets."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedback_listener.evidence import DRIFT_TOLERANCE, LIMIT_LOG10, MINUTES_PER_DAY, ODDS
from tests.statistics.alerting import episodes

P0 = 0.8
RETAINED_DAYS = 7
BEFORE = 0.88
"""The accuracy before it drops."""
KEEP_FIRING_MINUTES = 6 * 60
"""At the promised accuracy exactly, the evidence goes up and down about the threshold: these are one alarm."""

Sums = NDArray[np.float64]
"""Minutes x streams x (right, n, promised)."""
Factors = Callable[[Sums, float], NDArray[np.float64]]
"""By sums and odds."""
SumsOf = Callable[[int], Sums]
"""The next minutes, so many."""

DELAYS_H = {20: (47, 16, 5, 2.5), 100: (13, 3.5, 1.1, 0.6), 1000: (1.7, 0.5, 0.1, 0.1)}
"""What is wanted at most: by labels an hour, for a drop to each accuracy of AFTER. Rounded as it stands."""
AFTER = (0.75, 0.70, 0.60, 0.50)


def factors(sums: Sums, odds: float) -> NDArray[np.float64]:
    """L of each row of (right, n, promised), as `evidence` has it: a test compares them."""
    right, n, promised = sums.T
    mean = np.divide(promised, n, out=np.zeros_like(promised), where=n > 0)
    logs = right * np.log(odds) - n * np.log1p(-mean * (1 - odds))
    grown: NDArray[np.float64] = np.exp(np.minimum(logs, LIMIT_LOG10 * np.log(10)))
    return grown


class Source(NamedTuple):
    """Audited labels: a Poisson process."""

    labels_per_h: float
    streams: int
    dice: np.random.Generator

    def level(self, accuracy: float, minutes: int) -> Sums:
        """Where P0 is promised."""
        rates = np.array([accuracy, 1 - accuracy]) * self.labels_per_h / 60
        right, wrong = (self.dice.poisson(rate, (minutes, self.streams)) for rate in rates)
        n = right + wrong
        return np.stack([right, n, P0 * n], axis=-1).astype(np.float64)

    def promised(self, spare: float, minutes: int) -> Sums:
        """Where confidences promise; a label is right with its confidence, less the tolerance, and `spare` more."""
        cells = minutes * self.streams
        n = self.dice.poisson(self.labels_per_h / 60, cells)
        cell = np.repeat(np.arange(cells), n)
        # Most texts are easy, some are not: from 50 to 100 %, 87.5 % on average.
        confidence = 1 - 0.5 * self.dice.random(len(cell)) ** 3
        is_right = self.dice.random(len(cell)) < confidence - DRIFT_TOLERANCE + spare
        right, promised = (np.bincount(cell, of, cells) for of in (is_right, confidence))
        sums = np.stack([right, n, promised - DRIFT_TOLERANCE * n], axis=-1)
        return sums.reshape(minutes, self.streams, 3)


class Paths:
    """Detectors of many streams, side by side. `bets` is the code that is proven, or a wrong variant of it."""

    def __init__(self, streams: int, bets: Factors = factors) -> None:
        self._bets = bets
        self._stakes = np.zeros((len(ODDS), streams))

    def go_on(self, sums: Sums) -> NDArray[np.float64]:
        """Stakes after each minute: minutes x bets x streams."""
        grown = self.factors(sums)
        stakes = np.empty_like(grown)
        for minute, by in enumerate(grown):
            np.minimum((1 + self._stakes) * by, 10**LIMIT_LOG10, out=stakes[minute])
            self._stakes = stakes[minute]
        return stakes

    def factors(self, sums: Sums) -> NDArray[np.float64]:
        """By which stakes grow: minutes x bets x streams."""
        rows = sums.reshape(-1, 3)
        return np.stack([self._bets(rows, odds).reshape(sums.shape[:2]) for odds in ODDS], axis=1)

    def forget(self, streams: NDArray[np.bool_]) -> None:
        """Begin anew in these streams."""
        self._stakes = np.where(streams, 0, self._stakes)


def retained_evidence(days: Iterator[Sums], streams: int) -> Iterator[NDArray[np.float64]]:
    """M over the last RETAINED_DAYS days, as it is served: minutes x streams, a day at a time.

    The stakes from before have grown as all others since; so they can be told, and taken away.
    """
    paths = Paths(streams)
    logs = np.zeros((len(ODDS), streams))
    kept: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(maxlen=RETAINED_DAYS)
    for sums in days:
        stakes = paths.go_on(sums)
        growth = logs + np.log(paths.factors(sums)).cumsum(axis=0)
        logs = growth[-1]
        older = 0.0
        if len(kept) == RETAINED_DAYS:
            old_stakes, old_growth = kept[0]
            older = old_stakes * np.exp(growth - old_growth)
        kept.append((stakes, growth))
        yield (stakes - older).mean(axis=1)


def alarms_a_year(sums_of: SumsOf, threshold: float, streams: int, bets: Factors = factors, days: int = 365) -> float:
    """By detectors that forget all at the end of an hour with an alarm. `sums_of` gives minutes of so many streams."""
    paths = Paths(streams, bets)
    alarms = 0
    for _hour in range(days * 24):
        is_alarm = (paths.go_on(sums_of(60)).mean(axis=1) >= threshold).any(axis=0)
        paths.forget(is_alarm)
        alarms += int(is_alarm.sum())
    return alarms / streams * 365 / days


def episodes_a_year(sums_of: SumsOf, threshold: float, years: int) -> float:
    """Of the alert, which goes by the retained minutes and stays for KEEP_FIRING_MINUTES; a year of `years` streams."""
    days = (sums_of(MINUTES_PER_DAY) for _day in range(365))
    is_over = np.concatenate([evidence >= threshold for evidence in retained_evidence(days, years)])
    return episodes(is_over, keep_firing_minutes=KEEP_FIRING_MINUTES) / years


def within(measured_h: float, wanted_h: float) -> bool:
    """Whether it is at most a tenth more, rounded to as many digits as DELAYS_H gives."""
    digits = 1 if wanted_h % 1 else 0
    return round(measured_h, digits) <= wanted_h * 1.1


def delay_h(source: Source, after: float, threshold: float, bets: Factors = factors) -> float:
    """The median time from a drop of the accuracy from BEFORE to the alarm; infinite if most see none in 10 days."""
    return _delay_h(partial(source.level, BEFORE), partial(source.level, after), threshold, Paths(source.streams, bets))


def drift_delay_h(source: Source, loss: float, threshold: float) -> float:
    """The same from when labels are right less often by `loss` than confidences say, which were kept before."""
    kept, lost = partial(source.promised, DRIFT_TOLERANCE), partial(source.promised, DRIFT_TOLERANCE - loss)
    return _delay_h(kept, lost, threshold, Paths(source.streams))


def _delay_h(before: SumsOf, after: SumsOf, threshold: float, paths: Paths) -> float:
    stakes = paths.go_on(before(MINUTES_PER_DAY))
    minutes = np.full(stakes.shape[-1], np.inf)
    for hour in range(10 * 24):
        is_alarm = paths.go_on(after(60)).mean(axis=1) >= threshold
        first = np.where(is_alarm.any(axis=0), hour * 60 + is_alarm.argmax(axis=0) + 1, np.inf)
        minutes = np.minimum(minutes, first)
        if np.isfinite(minutes).mean() > 0.5:
            break
    return float(np.median(minutes)) / 60
