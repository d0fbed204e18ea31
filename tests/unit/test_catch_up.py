"""What a listener's probes answer, with a clock that the test turns."""

import pytest

from feedback_listener.catch_up import STALLED_S, UNWELL_S, CatchUp
from feedback_listener.records import Stream
from feedback_listener.totals import Snapshot


class Clock:
    """Seconds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """It stands at 0."""
    return Clock()


@pytest.fixture
def catch_up(clock: Clock) -> CatchUp:
    """Nothing read yet."""
    return CatchUp(clock)


def test_it_is_ready_when_all_that_was_there_at_the_start_is_applied(catch_up: CatchUp) -> None:
    """Before it is known how much that is, too, it is not."""
    assert "starting" in (catch_up.ready({}) or "")
    catch_up.aim({(Stream.RESULTS, 0): 5, (Stream.FEEDBACK, 0): 0})
    catch_up.come({(Stream.RESULTS, 0): 4}, lambda: Snapshot(0, 0))
    assert catch_up.ready({}) == "catching up: 1 partitions are not read to their end yet"
    catch_up.come({(Stream.RESULTS, 0): 5}, lambda: Snapshot(0, 0))
    assert catch_up.ready({}) is None
    assert "x-0 and 1 other partitions for 40 s" in (catch_up.ready({"x-0": 40.0, "x-1": 31.0}) or "")


def test_it_is_alive_while_its_loop_turns(catch_up: CatchUp, clock: Clock) -> None:
    """And before it turns for the first time, for as long as that takes."""
    clock.now_s = 10 * STALLED_S
    assert catch_up.live() is None
    catch_up.turn()
    catch_up.aim({})
    clock.now_s += UNWELL_S
    assert catch_up.ready({}) is None
    clock.now_s += 1
    assert catch_up.ready({"x-0": 31.0}) == "the store has taken nothing for 31 s", "not: no broker has answered"
    clock.now_s += STALLED_S - UNWELL_S - 1
    assert catch_up.live() is None
    clock.now_s += 1
    assert catch_up.live() == "the store has taken nothing for 61 s"
