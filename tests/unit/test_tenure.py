"""A tenure gives back all the credit it took, drops what comes too late, and hands out runs by the commit policy."""

import asyncio
import time

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.events import Reason
from tests.records import FakeRecord
from worker.outcomes import Encoded, Refused, Scored
from worker.tenure import QUEUE_S, SMOOTHING_TEXTS, Credit, Tenure, largest_share

TP = TopicPartition("sentiment.input", 0)


def outcome(offset: int) -> Refused:
    return Refused(FakeRecord(offset=offset), Reason.EMPTY_TEXT, "")


def tenure_with(records: int, credit: Credit) -> Tenure:
    tenure = Tenure(TP, credit, 0)
    for offset in range(records):
        tenure.admit(FakeRecord(offset=offset))
    return tenure


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_credit_is_exhausted_at_the_limit_and_back_at_three_quarters() -> None:
    """Fetching stops at the limit, of records or of bytes, and goes on when a quarter is free."""
    for credit, record_bytes in ((Credit(4, 1000), 1), (Credit(1000, 4), 1)):
        credit.take(4, 4 * record_bytes)
        waiting = asyncio.ensure_future(credit.available())
        await asyncio.sleep(0)
        assert not waiting.done()
        credit.give_back(1, record_bytes)
        await waiting


async def test_committed_records_give_their_credit_back() -> None:
    """After a commit the position is past the run, and only the rest is held."""
    credit = Credit(10, 1000)
    tenure = tenure_with(3, credit)
    for offset in (1, 0):
        tenure.finish(outcome(offset))
    outcomes = await tenure.next_outcomes(enough=1, not_before_s=now_s())
    assert [item.record.offset for item in outcomes] == [0, 1]
    assert credit.records == 3
    tenure.committed(outcomes)
    assert (credit.records, tenure.position, tenure.held_records) == (1, 2, 1)
    tenure.close()
    assert (credit.records, credit.bytes) == (0, 0)


async def test_lag_in_seconds_is_the_age_of_the_oldest_record_held() -> None:
    """It shrinks with each commit, is 0 when none is held, and never negative: a producer's clock may be ahead."""
    tenure = Tenure(TP, Credit(10, 1000), 0)
    assert tenure.lag_s() == 0
    for offset, age_s in enumerate((60, 5, -60)):
        tenure.admit(FakeRecord(offset=offset, timestamp=round((time.time() - age_s) * 1000)))
    for expected_s in (60, 5, 0):
        assert tenure.lag_s() == pytest.approx(expected_s, abs=1)
        tenure.finish(outcome(tenure.position))
        tenure.committed(await tenure.next_outcomes(enough=1, not_before_s=now_s()))
    tenure.admit(FakeRecord(offset=3, timestamp=0))
    tenure.close()
    assert tenure.lag_s() == 0


async def test_an_outcome_of_an_ended_epoch_is_dropped() -> None:
    """What was in the model when a partition was lost does not reach its next epoch."""
    credit = Credit(10, 1000)
    old = tenure_with(2, credit)
    old.close()
    new = tenure_with(1, credit)
    old.finish(outcome(0))
    assert old.epoch != new.epoch
    new.retire()
    assert await new.next_outcomes(enough=1, not_before_s=now_s()) == []


async def test_a_run_waits_for_the_interval_or_for_enough() -> None:
    """One finished record waits for the commit interval; enough of them do not."""
    tenure = tenure_with(3, Credit(10, 1000))
    tenure.finish(outcome(0))
    outcomes = asyncio.ensure_future(tenure.next_outcomes(enough=3, not_before_s=now_s() + 3600))
    await asyncio.sleep(0)
    assert not outcomes.done()
    tenure.finish(outcome(1))
    tenure.finish(outcome(2))
    assert len(await outcomes) == 3


async def test_a_retired_tenure_waits_only_for_what_is_in_the_model() -> None:
    """On revoke the finished run leaves at once, what is in the model is awaited, what is not is left behind."""
    tenure = tenure_with(3, Credit(10, 1000))
    tenure.enter_model()
    tenure.retire()
    assert not tenure.accepts
    outcomes = asyncio.ensure_future(tenure.next_outcomes(enough=100, not_before_s=now_s() + 3600))
    await asyncio.sleep(0)
    assert not outcomes.done()
    tenure.finish(outcome(0))
    tenure.leave_model()
    assert [item.record.offset for item in await outcomes] == [0]
    assert await tenure.next_outcomes(enough=100, not_before_s=now_s() + 3600) == []


async def test_a_failed_tenure_raises() -> None:
    """What broke the reading of a partition ends its epoch."""
    tenure = tenure_with(1, Credit(10, 1000))
    tenure.fail(KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await tenure.next_outcomes(enough=1, not_before_s=now_s())


def scored(offset: int, infer_s: float) -> Scored:
    text = Encoded(FakeRecord(offset=offset), "", None, [1], False, 0.0, 0.0)
    return Scored(text, [1.0], queue_s=0, infer_s=infer_s, padded_tokens=1, scored_at_s=0.0)


async def queueing(credit: Credit, records: int) -> Tenure:
    """A tenure of which one record is finished, and so many more will take the model longer than a queue may be."""
    tenure = tenure_with(1 + records, credit)
    tenure.finish(scored(0, infer_s=SMOOTHING_TEXTS * 1.01 * QUEUE_S / records))
    assert credit.is_queueing
    return tenure


async def test_while_texts_queue_up_a_run_waits_for_more() -> None:
    """Past the interval a queue still holds a run back, until it calms down: also by what other tenures finish."""
    credit = Credit(32, 1000)
    tenure = await queueing(credit, records=2)
    other = tenure_with(2, credit)
    outcomes = asyncio.ensure_future(tenure.next_outcomes(enough=3, not_before_s=now_s(), at_latest_s=now_s() + 3600))
    await asyncio.sleep(0.01)
    assert not outcomes.done()
    for offset in range(2):
        other.finish(outcome(offset))
    await asyncio.sleep(0.01)
    assert not outcomes.done()
    tenure.finish(outcome(2))
    assert not credit.is_queueing
    assert [item.record.offset for item in await outcomes] == [0]


async def test_a_queue_does_not_hold_a_run_back_for_ever() -> None:
    """At the latest time a run leaves, however long the queue is; enough finished records leave before."""
    tenure = await queueing(Credit(32, 1000), records=10)
    assert len(await tenure.next_outcomes(enough=3, not_before_s=now_s(), at_latest_s=now_s() + 0.01)) == 1
    for offset in (1, 2):
        tenure.finish(outcome(offset))
    assert len(await tenure.next_outcomes(enough=2, not_before_s=now_s() + 3600, at_latest_s=now_s() + 3600)) == 2


async def test_more_model_slots_make_a_shorter_queue() -> None:
    """The same texts are no queue for ten tenures, and none of a lost partition."""
    one, ten = Credit(32, 1000), Credit(32, 1000, model_slots=10)
    tenure = await queueing(one, records=10)
    with pytest.raises(AssertionError):
        await queueing(ten, records=10)
    tenure.close()
    assert not one.is_queueing


def test_a_stuck_partition_leaves_credit_to_the_others() -> None:
    """One alone may hold all; partitions that hold equally much are never held back."""
    assert largest_share(1) == 1
    assert all(1 / count < largest_share(count) < 0.7 for count in range(2, 100))
