"""Whether an event loop was blocked, on a machine that others load too: to have no core is not to be blocked."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICK_S = 0.05
MAX_COMPUTED_S = 0.5
"""Of the loop's thread in one step; CPU time, which no other load makes longer."""
MAX_BLOCKED_S = 2.0
"""Far above what a step of the loop takes on a machine that others slow down, below what a blocking call does."""


def waited_for_a_core_s() -> float:
    """How long threads of this process have been ready to run without a core; 0 where the kernel does not tell."""
    waited_ns = 0
    for told in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has ended
            waited_ns += int(told.read_text().split()[1])
    return waited_ns / 1e9


class Watch:
    """The running loop's worst step, seconds: how late its timers were, without what threads waited for a core; and how
    much of that its thread computed.
    """

    def __init__(self) -> None:
        self.longest_s = self.computed_s = 0.0
        self._begin()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s, self._waited_s, self._began_s = loop.time() + TICK_S, waited_for_a_core_s(), time.thread_time()
        self._timer = loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        late_s = asyncio.get_running_loop().time() - self._due_s
        # Twice: a thread without a core may hold the interpreter's lock, and then all others wait as well.
        self.longest_s = max(self.longest_s, late_s - 2 * (waited_for_a_core_s() - self._waited_s))
        self.computed_s = max(self.computed_s, min(late_s, time.thread_time() - self._began_s))
        self._begin()

    def end(self) -> None:
        self._timer.cancel()


@contextmanager
def never_blocked() -> Iterator[None]:
    """Raises AssertionError after a block in which something has held the running loop up."""
    watch = Watch()
    try:
        yield
    finally:
        watch.end()
    assert watch.computed_s < MAX_COMPUTED_S, f"the event loop was blocked: it computed for {watch.computed_s:.2f} s"
    assert watch.longest_s < MAX_BLOCKED_S, f"the event loop was blocked for {watch.longest_s:.2f} s"
