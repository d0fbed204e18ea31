"""On real texts, the audit tells the truth where volunteers do not; and the sample decides, not the estimator."""

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback_listener.confidence_sequence import alpha_each, confidence_sequence
from feedback_listener.evidence import Minute, evidence, threshold_log10
from tests.statistics.volunteers import is_right, samples, volunteer

REPETITIONS = 1000


@pytest.fixture(scope="module")
def right() -> NDArray[np.bool_]:
    return is_right(samples(None))


def test_the_audit_is_unbiased_and_covers(right: NDArray[np.bool_]) -> None:
    """Within half a point on average, and its intervals hold the truth as often as they say. Volunteers are far off."""
    found = volunteer(right, REPETITIONS)
    assert abs(found.audited - found.truth) < 0.005
    assert found.wilson_coverage == pytest.approx(0.95, abs=0.02)
    assert found.sequence_coverage >= 0.95
    assert found.volunteered < found.truth - 0.2


def test_an_audit_that_people_choose_fails_this(right: NDArray[np.bool_]) -> None:
    """Control: audited as volunteers label."""
    found = volunteer(right, 100, is_uniform=False)
    assert abs(found.audited - found.truth) > 0.2
    assert found.wilson_coverage < 0.05


@pytest.mark.parametrize("only_answered", [False, True], ids=["right", "only what is answered counts"])
def test_whoever_labels_what_raises_no_false_alarm(only_answered: bool) -> None:
    """An audit that volunteers alone label: one of ten wrong answers, one of fifty right ones, of a model that is well.

    What has no label counts as right, and may be wrong for the interval. Control: leaving it out.
    """
    minutes, truth = 7 * 1440, 0.86
    dice = np.random.default_rng(5)
    n = dice.poisson(100 / 60, (20, minutes))
    right = dice.binomial(n, truth)
    labelled_wrong, labelled_right = dice.binomial(n - right, 0.1), dice.binomial(right, 0.02)
    counted = labelled_wrong + labelled_right if only_answered else n
    alarms = missed = 0
    for stream in range(len(n)):
        sums = zip((counted - labelled_wrong)[stream].tolist(), counted[stream].tolist(), strict=True)
        alarms += evidence(Minute(r, of, 0.8 * of) for r, of in sums) >= threshold_log10(365)
        of, known, good = (
            int(sums[stream].sum()) for sums in (counted, labelled_wrong + labelled_right, labelled_right)
        )
        low, high = confidence_sequence(good, of, alpha_each(minutes * 60_000), of - known)
        missed += not low <= truth <= high
    assert (alarms == 0) is not only_answered
    assert (missed == 0) is not only_answered
