"""Looked at each minute, the served sequence keeps the truth; a slice of `make statistics`."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.confidence_sequence import confidence_sequence
from tests.statistics.looks import Limits, served, share_that_excludes_from_the_first, shares_that_exclude, wilson

STREAMS = 1000
ALLOWED = 0.05


@pytest.mark.parametrize(("labels_per_h", "truth"), [(20, 0.8), (20, 0.95)])
def test_the_served_sequence_keeps_the_truth_for_weeks(labels_per_h: float, truth: float) -> None:
    """Each minute of three weeks, with its restarts. Control: Wilson's interval, looked at so, does not."""
    shares = shares_that_exclude({"served": served, "wilson": wilson}, labels_per_h, truth, STREAMS, halves=6)
    assert shares["served"] <= ALLOWED
    assert shares["wilson"] > ALLOWED


def test_a_sequence_spends_its_alpha_and_no_more() -> None:
    """From the first label on, at each of 2,000. Control: ten times its alpha is more than it may spend."""

    def share(alpha: float) -> float:
        return share_that_excludes_from_the_first(partial(confidence_sequence, alpha=alpha), 0.88, 2000, STREAMS)

    assert 0.005 < share(ALLOWED) <= ALLOWED
    assert share(10 * ALLOWED) > ALLOWED


def test_it_is_not_vacuous() -> None:
    """With 20 labels an hour, it is at most 2.7 times as wide as Wilson's interval for one look."""
    n = 20 * 24 * 5
    for share in (0.8, 0.88, 0.95):
        (low, high), (wilson_low, wilson_high) = served(round(n * share), n), wilson(round(n * share), n)
        assert high - low < 2.7 * (wilson_high - wilson_low)


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=300))
def test_shards_add_up(labels: list[tuple[int, bool]]) -> None:
    """Over 1, 2 and 16 listeners that share the partitions, the interval is the same to the bit."""
    intervals = set()
    for shards in (1, 2, 16):
        n = Counter(partition % shards for partition, _is_right in labels)
        right = Counter(partition % shards for partition, is_right in labels if is_right)
        intervals.add(served(right.total(), n.total()))
    assert len(intervals) == 1


def test_limits_are_the_intervals_own() -> None:
    """The simulation decides by counts; these are inside exactly where the interval holds the truth."""
    truth = 0.88
    limits = Limits.of(served, truth, 200)
    for n in (1, 7, 50, 200):
        for right in range(n + 1):
            low, high = served(right, n)
            assert limits.exclude(np.array(right), np.array(n)) == (not low <= truth <= high)
