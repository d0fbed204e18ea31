"""What is said without labels: the mean confidence, until labels say what a confidence is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.tally import BINS
from feedback_listener.unlabelled import MIN_JUDGED, BinSums, estimated_accuracy


@st.composite
def bin_sums(draw: st.DrawFn) -> BinSums:
    predictions = draw(st.integers(0, 1000))
    judged = draw(st.integers(0, predictions))
    confidence = draw(st.floats(0, 1))
    return BinSums(predictions, predictions * confidence, judged, draw(st.integers(0, judged)))


def test_few_labels_leave_the_confidence() -> None:
    """49 wrong labels say nothing yet; the 50th does."""
    bins = [BinSums(100, 95.0, MIN_JUDGED - 1, 0), BinSums(300, 180.0, 0, 0)]
    assert estimated_accuracy(bins) == pytest.approx(275 / 400)
    assert estimated_accuracy([bins[0]._replace(judged=MIN_JUDGED), bins[1]]) == pytest.approx(180 / 400)


def test_nothing_predicted_is_no_estimate() -> None:
    """Absent, not 0."""
    assert estimated_accuracy([]) is None
    assert estimated_accuracy([BinSums(0, 0.0, 0, 0)] * BINS) is None


@given(st.lists(bin_sums(), max_size=BINS))
def test_an_estimate_is_a_share(bins: list[BinSums]) -> None:
    """Between the least and the greatest of what its bins say."""
    estimate = estimated_accuracy(bins)
    assert estimate is None or 0 <= estimate <= 1 + 1e-12
