"""The e-detector: its false alarms and its delays as promised; a slice of `make statistics`."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback_listener.evidence import LIMIT_LOG10, ODDS, Minute, evidence, threshold_log10
from tests.statistics.detectors import (
    AFTER,
    BEFORE,
    DELAYS_H,
    P0,
    Paths,
    Source,
    Sums,
    alarms_a_year,
    delay_h,
    factors,
    within,
)

YEAR = 10 ** threshold_log10(365)
STREAMS, DAYS = 450, 82
"""101 years."""


def source(labels_per_h: float, streams: int = STREAMS, seed: int = 1) -> Source:
    return Source(labels_per_h, streams, np.random.default_rng(seed))


def wrong_sign(sums: Sums, odds: float) -> NDArray[np.float64]:
    """A bet that labels are right more often than promised."""
    return factors(sums, 1 / odds)


def test_the_simulation_is_the_detector() -> None:
    """Many streams side by side give what `evidence` gives of each."""
    sums = source(100, streams=5).level(0.7, 300)
    stakes = Paths(5).go_on(sums)[-1].mean(axis=0)
    for stream, stake in enumerate(stakes):
        minutes = [Minute(int(right), int(n), promised) for right, n, promised in sums[:, stream]]
        assert evidence(minutes) == pytest.approx(np.log10(max(1, stake)), abs=1e-9)
        assert stake <= 10**LIMIT_LOG10


def test_false_alarms_are_as_rare_as_promised() -> None:
    """In 101 years at most one a year at the bound itself, which is near; almost none above it."""
    of = source(20)
    assert 0.2 < alarms_a_year(partial(of.level, P0), YEAR, STREAMS, days=DAYS) <= 1
    assert alarms_a_year(partial(of.level, 0.85), YEAR, STREAMS, days=20) <= 0.05


def test_a_detector_that_promises_too_much_fails_this() -> None:
    """Controls: a tenth of the threshold; bets of the wrong sign, where labels are right as they should be."""
    of = source(20)
    assert alarms_a_year(partial(of.level, P0), YEAR / 10, STREAMS, days=20) > 1
    assert alarms_a_year(partial(of.level, BEFORE), YEAR, STREAMS, wrong_sign, days=20) > 1


def test_kept_promises_of_varied_confidences_raise_no_alarm() -> None:
    """Concept drift: at most one a year where labels are right exactly as promised, less the tolerance."""
    of = source(20)
    assert alarms_a_year(partial(of.promised, 0), YEAR, STREAMS, days=DAYS) <= 1


@pytest.mark.parametrize("labels_per_h", DELAYS_H)
def test_drops_are_found_in_time(labels_per_h: int) -> None:
    """The median delay is at most a tenth more than what is wanted."""
    for after, wanted_h in zip(AFTER, DELAYS_H[labels_per_h], strict=True):
        assert within(delay_h(source(labels_per_h, streams=400), after, YEAR), wanted_h)


def test_timid_bets_are_too_late() -> None:
    """Control: with bets a fifth as bold, drops are not found in time."""

    def timid(sums: Sums, odds: float) -> NDArray[np.float64]:
        return factors(sums, 1 - (1 - odds) / 5)

    assert len(ODDS) > 1
    assert not within(delay_h(source(100, streams=200), 0.6, YEAR, timid), DELAYS_H[100][2])
