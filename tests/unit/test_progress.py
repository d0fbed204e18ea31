"""What a listener's probes answer, with a clock that the test turns."""

import pytest

from feedback_listener.progress import STALLED_S, Progress
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
def progress(clock: Clock) -> Progress:
    """Nothing read yet."""
    return Progress(clock)


def test_it_is_ready_when_all_that_was_there_at_the_start_is_applied(progress: Progress) -> None:
    """Before it is known how much that is, too, it is not."""
    assert "starting" in (progress.ready({}) or "")
    progress.aim({(Stream.RESULTS, 0): 5, (Stream.FEEDBACK, 0): 0})
    progress.come({(Stream.RESULTS, 0): 4}, lambda: Snapshot(0, 0))
    assert progress.ready({}) == "catching up: 1 partitions are not read to their end yet"
    progress.come({(Stream.RESULTS, 0): 5}, lambda: Snapshot(0, 0))
    assert progress.ready({}) is None
    assert "x-0 and 1 other partitions for 40 s" in (progress.ready({"x-0": 40.0, "x-1": 31.0}) or "")


def test_it_is_alive_while_its_loop_turns(progress: Progress, clock: Clock) -> None:
    """And before it turns for the first time, for as long as that takes."""
    clock.now_s = 10 * STALLED_S
    assert progress.live() is None
    progress.turn()
    clock.now_s += STALLED_S
    assert progress.live() is None
    clock.now_s += 1
    assert progress.live() == "the loop that reads the topics has stood still for 61 s"
