"""When a partition's next transaction starts, as a function of facts and times."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.commit_policy import AT_ONCE_S, MAX_QUEUEING_S, SETTLE_S, CommitPolicy, Terms
from worker.settings import WorkerSettings

TERMS = Terms(enough=3, not_before_s=10, at_latest_s=30)


def start_s(finished: int, *, is_retired: bool = False, is_queueing: bool = False) -> float:
    return TERMS.start_s(finished, is_retired=is_retired, is_queueing=is_queueing)


def test_nothing_finished_is_nothing_to_commit() -> None:
    """However long it is since the last transaction."""
    assert start_s(0) == start_s(0, is_retired=True) == math.inf


def test_a_few_wait_for_the_interval_enough_do_not() -> None:
    """One finished record waits; three do not."""
    assert (start_s(1), start_s(3)) == (10, AT_ONCE_S)


def test_while_texts_queue_up_a_few_wait_longer() -> None:
    """Past the interval a queue still holds them back; not for ever, and not what is enough."""
    assert (start_s(2, is_queueing=True), start_s(3, is_queueing=True)) == (30, AT_ONCE_S)


@given(st.integers(1, 10), st.booleans())
def test_a_retired_tenure_waits_for_nothing(finished: int, is_queueing: bool) -> None:
    """What is finished when the partition is taken away is committed at once."""
    assert start_s(finished, is_retired=True, is_queueing=is_queueing) == AT_ONCE_S


def test_the_first_transaction_waits_for_nothing() -> None:
    """A partition that was just opened has readers waiting."""
    terms = CommitPolicy(WorkerSettings()).first(1)
    assert terms.start_s(1, is_retired=False, is_queueing=True) == AT_ONCE_S


def test_intervals_begin_where_transactions_begin() -> None:
    """A slow transaction does not add to the interval, but the broker gets its moment after it."""
    policy = CommitPolicy(WorkerSettings(commit_interval_s=0.1))
    assert policy.next(1, began_s=5, ended_s=5.01).not_before_s == pytest.approx(5.1)
    assert policy.next(1, began_s=5, ended_s=9).not_before_s == pytest.approx(9 + SETTLE_S)


def test_many_partitions_commit_less_often() -> None:
    """All together take their share of a core at most; while texts queue up, nobody waits longer than the bound."""
    policy = CommitPolicy(WorkerSettings(commit_interval_s=0.1, commit_cpu_share=0.05))
    assert [policy.interval_s(tenures) for tenures in (1, 100)] == [0.1, pytest.approx(2.8)]
    assert [policy.next(tenures, 5, 5).at_latest_s for tenures in (1, 100)] == [7, 5 + MAX_QUEUEING_S]


@given(st.integers(1, 5000), st.integers(1, 200))
def test_waiting_outcomes_leave_credit_to_the_model(max_records: int, tenures: int) -> None:
    """Outcomes that wait for a transaction hold half of the credit at most, while there is a record for each tenure."""
    enough = CommitPolicy(WorkerSettings(max_records=max_records)).first(tenures).enough
    assert 1 <= enough <= 500
    assert enough == 1 or enough * tenures <= max_records / 2
