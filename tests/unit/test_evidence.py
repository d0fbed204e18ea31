"""Evidence of a drop: bets that are fair by exact sums over all outcomes, and a detector that adds them up."""

import itertools
from math import log10, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.evidence import (
    LIMIT_LOG10,
    MINUTES_PER_DAY,
    ODDS,
    Detector,
    Minute,
    evidence,
    threshold_log10,
)

PROMISES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def minute_of(n: int, share: float, promise: float) -> Minute:
    return Minute(round(n * share), n, n * promise)


MINUTES = st.lists(
    st.builds(minute_of, st.integers(0, 50), st.floats(0, 1), st.floats(0, 1)),
    max_size=60,
)
"""Of all kinds, empty ones too."""
FEW = st.lists(st.builds(minute_of, st.integers(0, 2), st.floats(0, 1), st.floats(0, 0.5)), max_size=12)
"""Too few labels to come near the limit."""


def factor(minute: Minute, odds: float) -> float:
    """L, as the module's docstring has it, by other code."""
    right, n, promised = minute
    return odds**right / (1 - promised / n * (1 - odds)) ** n if n else 1.0


def shiryaev_roberts(minutes: list[Minute]) -> float:
    """The sum over all starts of the product of what came since, meant over the bets."""
    products = (
        prod(factor(minute, odds) for minute in minutes[start:]) for odds in ODDS for start in range(len(minutes))
    )
    return sum(products) / len(ODDS)


@given(PROMISES, st.floats(0, 1), st.sampled_from(ODDS))
def test_a_bet_is_at_most_fair_while_the_claim_holds(promises: list[float], spare: float, odds: float) -> None:
    """The mean of L over all outcomes, when each label is right as promised or more often: promises vary freely."""
    n = len(promises)
    chances = [promise + spare * (1 - promise) for promise in promises]
    mean = sum(
        prod(chance if right else 1 - chance for chance, right in zip(chances, outcome, strict=True))
        * factor(Minute(sum(outcome), n, sum(promises)), odds)
        for outcome in itertools.product((0, 1), repeat=n)
    )
    assert mean <= 1 + 1e-9


@given(PROMISES, st.sampled_from(ODDS))
def test_a_bet_wins_when_the_odds_are_as_bad_as_it_says(promises: list[float], odds: float) -> None:
    """With the wrong sign it would lose here: the mean of L is 1 or more."""
    promise = sum(promises) / len(promises)
    chance = promise * odds / (promise * odds + 1 - promise) if promise else 0.0
    mean = chance * factor(Minute(1, 1, promise), odds) + (1 - chance) * factor(Minute(0, 1, promise), odds)
    assert mean >= 1 - 1e-9


@given(FEW)
def test_it_is_the_sum_over_all_starts(minutes: list[Minute]) -> None:
    """The recursion agrees with the definition."""
    assert evidence(minutes) == pytest.approx(log10(max(1.0, shiryaev_roberts(minutes))), abs=1e-9)


@given(MINUTES, st.integers(0, 60))
def test_a_window_holds_at_most_the_evidence_since_ever(minutes: list[Minute], forgotten: int) -> None:
    """Later starts are fewer stakes: so a retained window never raises an alarm that all records would not."""
    assert evidence(minutes[forgotten:]) <= evidence(minutes) + 1e-12


@given(MINUTES, st.integers(0, 60))
def test_it_may_be_taken_in_parts(minutes: list[Minute], first: int) -> None:
    """Minute by minute, or in two pieces, it is the same to the bit."""
    single, pieces = Detector(), Detector()
    for minute in minutes:
        single.advance(*minute)
    pieces.advance_through(minutes[:first])
    pieces.advance_through(minutes[first:])
    assert single.log10_evidence == pieces.log10_evidence == evidence(minutes)


@given(MINUTES.filter(bool), st.data())
def test_one_more_right_is_no_more_evidence(minutes: list[Minute], data: st.DataObject) -> None:
    """Monotone in what is right."""
    index = data.draw(st.integers(0, len(minutes) - 1))
    right, n, promised = minutes[index]
    better = [*minutes[:index], Minute(min(right + 1, n), n, promised), *minutes[index + 1 :]]
    assert evidence(better) <= evidence(minutes) + 1e-12


@pytest.mark.parametrize("n", [1, 10**3, 10**6])
@pytest.mark.parametrize("right_share", [0, 1])
@pytest.mark.parametrize("promise", [0, 0.8, 1])
def test_extremes_neither_overflow_nor_stick(n: int, right_share: float, promise: float) -> None:
    """After a week of anything there is a number; after a week of accurate labels there is no alarm."""
    extreme = [minute_of(n, right_share, promise)] * 10_080
    assert 0 <= evidence(extreme) <= LIMIT_LOG10
    assert evidence([*extreme, *[minute_of(100, 0.9, 0.8)] * 60]) < 1


def test_minutes_without_predictions_add_one_each() -> None:
    """A stake is laid in every minute, so that the mean time between false alarms is one of minutes."""
    assert evidence([Minute(0, 0, 0.0)] * 1000) == pytest.approx(3)
    assert evidence([]) == 0


def test_what_nobody_answers_is_no_evidence() -> None:
    """It counts as right: evidence gets less by it, whatever was promised."""
    wrong = [Minute(0, 3, 2.4)] * 10
    assert evidence([*wrong, *[Minute(3, 3, 2.4)] * 5]) < evidence(wrong)
    assert evidence([Minute(3, 3, 2.4)] * 10_080) < 1


def test_the_threshold_is_the_mean_time_in_minutes() -> None:
    """A year is 525,600 minutes."""
    assert threshold_log10(365) == pytest.approx(log10(365 * MINUTES_PER_DAY))


def test_a_threshold_that_nothing_reaches_is_refused() -> None:
    """The surest evidence, of one bet alone, is more than what is accepted."""
    accepted = 10**LIMIT_LOG10 / len(ODDS) / MINUTES_PER_DAY
    assert threshold_log10(accepted * 0.99) < evidence([Minute(0, 100, 80.0)] * 1000)
    with pytest.raises(ValueError, match="too many"):
        threshold_log10(accepted * 1.01)
