"""The interval for ever: exact by rational arithmetic, nested, symmetric, a function of two counts."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.confidence_sequence import (
    YEAR_MS,
    YEARLY_ALPHA,
    alpha_each,
    confidence_sequence,
    sequence_start_ms,
)

ALPHAS = st.sampled_from([0.05, 0.01, 1e-4])
COUNTS = st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
WINDOWS_MS = st.integers(2, 40 * 24 * 60 * 60 * 1000)


def is_inside(p: Fraction, right: int, n: int, alpha: float) -> bool:
    """The definition, in whole numbers: B(1 + right, 1 + wrong) = 1 / ((n + 1) C(n, right))."""
    return Fraction(alpha) < (n + 1) * comb(n, right) * p**right * (1 - p) ** (n - right)


@given(COUNTS, ALPHAS)
def test_its_ends_are_where_the_definition_has_them(counts: tuple[int, int], alpha: float) -> None:
    """1e-9 outside an end is outside, 1e-9 inside is inside."""
    interval = confidence_sequence(*counts, alpha)
    step = Fraction(1, 10**9)
    for end, inwards in ((interval.low, step), (interval.high, -step)):
        if 0 < end < 1:
            assert is_inside(Fraction(end) + inwards, *counts, alpha)
            assert not is_inside(Fraction(end) - inwards, *counts, alpha)
        else:
            assert not counts[1] or is_inside(Fraction(round(end)), *counts, alpha)


@given(COUNTS, ALPHAS)
def test_it_holds_the_mean_and_mirrors(counts: tuple[int, int], alpha: float) -> None:
    """Right and wrong are two names for the same thing."""
    right, n = counts
    low, high = confidence_sequence(right, n, alpha)
    assert 0 <= low <= (right / n if n else 0.5) <= high <= 1
    assert confidence_sequence(n - right, n, alpha) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(COUNTS, ALPHAS)
def test_it_is_nested_in_alpha_and_rises_with_what_is_right(counts: tuple[int, int], alpha: float) -> None:
    """Who wants to be surer gets a wider interval; one more right label moves no end down."""
    right, n = counts
    interval, surer = confidence_sequence(right, n, alpha), confidence_sequence(right, n, alpha / 2)
    assert surer.low <= interval.low
    assert interval.high <= surer.high
    more = confidence_sequence(right + 1, n + 1, alpha)
    assert more.low >= interval.low
    assert more.high >= interval.high


@pytest.mark.parametrize("n", [10**3, 10**6, 10**9])
@pytest.mark.parametrize("share", [0, 1e-3, 0.5, 0.88, 1])
def test_many_labels_stay_numerically_sound(n: int, share: float) -> None:
    """Narrower with each thousandfold, never empty, never beyond 0 and 1."""
    right = round(n * share)
    low, high = confidence_sequence(right, n, 0.05)
    assert 0 <= low <= right / n <= high <= 1
    assert 0 < high - low < 12 * (share * (1 - share) / n) ** 0.5 + 30 / n


def test_nothing_is_known_without_labels() -> None:
    """All accuracies are possible."""
    assert confidence_sequence(0, 0, 0.05) == (0, 1)


@given(st.integers(0, 2**42), WINDOWS_MS)
def test_a_start_is_fixed_and_not_older_than_a_window(now_ms: int, window_ms: int) -> None:
    """It lies half a window back or more, a window or less, and is the same until the next one."""
    start_ms = sequence_start_ms(now_ms, window_ms)
    half_ms = window_ms // 2
    assert start_ms % half_ms == 0
    assert now_ms - window_ms <= start_ms < now_ms - window_ms + half_ms
    assert sequence_start_ms(start_ms + window_ms, window_ms) == start_ms
    assert sequence_start_ms(start_ms + window_ms + 1, window_ms) == start_ms + half_ms


@given(st.integers(0, 2**42), st.integers(60_000, 40 * 24 * 60 * 60 * 1000))
def test_a_year_spends_no_more_than_it_has(now_ms: int, window_ms: int) -> None:
    """From whichever moment on, so many sequences are served in a year at most."""
    half_ms = window_ms // 2
    first_ms, last_ms = (sequence_start_ms(at_ms, window_ms) for at_ms in (now_ms, now_ms + YEAR_MS - 1))
    starts = (last_ms - first_ms) // half_ms + 1
    assert starts * alpha_each(window_ms) <= YEARLY_ALPHA * (1 + 1e-12)


def test_a_week_is_106_starts_a_year() -> None:
    """The default's share, as it is documented."""
    assert alpha_each(7 * 24 * 60 * 60 * 1000) == 0.05 / 106


@given(COUNTS, st.integers(0, 1000), ALPHAS)
def test_what_is_unknown_may_be_right_or_wrong(counts: tuple[int, int], unknown: int, alpha: float) -> None:
    """The interval holds those of all cases, and is no wider than the two extremes."""
    right, known = counts
    n = known + unknown
    found = confidence_sequence(right, n, alpha, unknown)
    extremes = [confidence_sequence(right + more, n, alpha) for more in (0, unknown)]
    assert found == (extremes[0].low, extremes[1].high)
