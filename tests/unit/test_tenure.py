"""A tenure gives back all the credit it took, drops what comes too late, and wakes when its terms are met."""

import asyncio
import math

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.events import ModelRef, Reason
from tests.records import NEW, FakeRecord
from worker.commit_policy import AT_ONCE_S, Terms
from worker.credit import Credit
from worker.load import QUEUE_S, SMOOTHING_TEXTS, ModelLoad
from worker.outcomes import Encoded, ModelIdentity, Outcome, Refused, Scored
from worker.tenure import Tenure

TP = TopicPartition("sentiment.input", 0)
AT_ONCE = Terms(enough=1, not_before_s=AT_ONCE_S, at_latest_s=AT_ONCE_S)
MODEL = ModelIdentity(ModelRef(name="m", version="1", digest="sha256:0"), ("x",))


class Worker:
    """What tenures of one worker share: credit, and the load that wakes them."""

    def __init__(self) -> None:
        self.credit = Credit(32, 1000)
        self.load = ModelLoad(1, on_calm=self.wake_all)
        self.tenures: list[Tenure] = []

    def wake_all(self) -> None:
        for tenure in self.tenures:
            tenure.wake()

    def tenure(self, records: int) -> Tenure:
        tenure = Tenure(TP, self.credit, self.load, 0, NEW)
        self.tenures.append(tenure)
        for offset in range(records):
            tenure.admit(FakeRecord(offset=offset))
        return tenure


def refused(offset: int) -> Refused:
    return Refused(FakeRecord(offset=offset), Reason.EMPTY_TEXT, "")


def scored(offset: int, infer_s: float) -> Scored:
    text = Encoded(FakeRecord(offset=offset), "", None, [1], False, 0.0, 0.0)
    return Scored(text, MODEL, [1.0], queue_s=0, infer_s=infer_s, padded_tokens=1, scored_at_s=0.0)


async def is_waiting(outcomes: "asyncio.Task[list[Outcome]]") -> bool:
    """Whether it still waits after everything that could happen has happened."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not outcomes.done()


async def test_committed_records_give_their_credit_back() -> None:
    """After a commit the position is past the outcomes, and only the rest is held."""
    worker = Worker()
    tenure = worker.tenure(3)
    for offset in (1, 0):
        tenure.finish(refused(offset))
    outcomes = await tenure.next_outcomes(AT_ONCE)
    assert [outcome.record.offset for outcome in outcomes] == [0, 1]
    assert worker.credit.records == 3
    tenure.committed(outcomes)
    assert (worker.credit.records, tenure.position, tenure.held_records) == (1, 2, 1)
    tenure.close()
    assert (worker.credit.records, worker.credit.bytes) == (0, 0)


async def test_lag_in_seconds_is_the_age_of_the_oldest_record_held() -> None:
    """It shrinks with each commit, is 0 when none is held, and never negative: a producer's clock may be ahead."""
    tenure, now_s = Worker().tenure(0), 1_700_000_000.0
    assert tenure.lag_s(now_s) == 0
    for offset, age_s in enumerate((60, 5, -60)):
        tenure.admit(FakeRecord(offset=offset, timestamp=round((now_s - age_s) * 1000)))
    for expected_s in (60, 5, 0):
        assert tenure.lag_s(now_s) == expected_s
        tenure.finish(refused(tenure.position))
        tenure.committed(await tenure.next_outcomes(AT_ONCE))
    tenure.admit(FakeRecord(offset=3, timestamp=0))
    tenure.close()
    assert tenure.lag_s(now_s) == 0


async def test_an_outcome_of_an_ended_epoch_is_dropped() -> None:
    """What was in the model when a partition was lost does not reach its next epoch."""
    worker = Worker()
    old = worker.tenure(2)
    old.close()
    new = worker.tenure(1)
    old.finish(refused(0))
    assert old.epoch != new.epoch
    new.retire()
    assert await new.next_outcomes(AT_ONCE) == []


async def test_outcomes_wait_for_the_interval_or_for_enough() -> None:
    """One finished record waits for its time; enough of them do not."""
    tenure = Worker().tenure(3)
    tenure.finish(refused(0))
    outcomes = asyncio.ensure_future(tenure.next_outcomes(Terms(3, not_before_s=1, at_latest_s=1), clock=lambda: 0))
    assert await is_waiting(outcomes)
    tenure.finish(refused(1))
    tenure.finish(refused(2))
    assert len(await outcomes) == 3


async def test_the_first_outcome_wakes_who_waited_for_any() -> None:
    """The interval is over, nothing was finished: what comes then leaves at once, enough or not."""
    tenure = Worker().tenure(3)
    outcomes = asyncio.ensure_future(tenure.next_outcomes(Terms(3, not_before_s=1, at_latest_s=1), clock=lambda: 2))
    assert await is_waiting(outcomes)
    tenure.finish(refused(0))
    assert len(await outcomes) == 1


async def test_the_time_itself_wakes() -> None:
    """When nothing happens before, the outcomes leave at their time."""
    tenure, times = Worker().tenure(1), iter([0.999, 1.0])
    tenure.finish(refused(0))
    terms = Terms(enough=3, not_before_s=1.0, at_latest_s=math.inf)
    assert len(await tenure.next_outcomes(terms, clock=lambda: next(times) if tenure.held_records else 0)) == 1


async def test_a_retired_tenure_waits_only_for_what_is_in_the_model() -> None:
    """On revoke what is finished leaves at once, what is in the model is awaited, what is not is left behind."""
    tenure, never = Worker().tenure(3), Terms(100, not_before_s=math.inf, at_latest_s=math.inf)
    tenure.enter_model()
    tenure.retire()
    assert not tenure.accepts
    outcomes = asyncio.ensure_future(tenure.next_outcomes(never))
    assert await is_waiting(outcomes)
    tenure.finish(refused(0))
    tenure.leave_model()
    assert [outcome.record.offset for outcome in await outcomes] == [0]
    assert await tenure.next_outcomes(never) == []


async def test_a_failed_tenure_raises() -> None:
    """What broke the reading of a partition ends its epoch."""
    tenure = Worker().tenure(1)
    tenure.fail(KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await tenure.next_outcomes(AT_ONCE)


async def test_what_waits_for_a_queue_leaves_when_other_tenures_end_it() -> None:
    """Past the interval a queue holds outcomes back, until texts no longer queue up: whoever's texts they were."""
    worker = Worker()
    tenure, other = worker.tenure(2), worker.tenure(2)
    tenure.finish(scored(0, infer_s=SMOOTHING_TEXTS * QUEUE_S / 2.5))
    assert worker.load.is_queueing
    terms = Terms(enough=3, not_before_s=AT_ONCE_S, at_latest_s=math.inf)
    outcomes = asyncio.ensure_future(tenure.next_outcomes(terms))
    assert await is_waiting(outcomes)
    other.finish(refused(0))
    assert [outcome.record.offset for outcome in await outcomes] == [0]
