"""From signals to an orderly end: a signal sets an event, services drain and return, errors become exit codes."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import structlog
from aiokafka.errors import KafkaError

from streamgauge.denials import leaves, most_telling
from streamgauge.errors import Stopped, StreamgaugeError

log = structlog.get_logger(__name__)

T = TypeVar("T")

CLOSE_S = 5.0
"""For a command's clients to be closed, after it has been cut off."""


def clock_ms() -> int:
    """The wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Clock(NamedTuple):
    """Where time comes from; passed in where time decides, so that a test can say what time it is."""

    wall_ms: Callable[[], int] = clock_ms
    """Since the epoch."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Of no known origin; never goes back."""


CLOCK = Clock()
"""The computer's."""


class Deadline:
    """One time budget shared by several steps, on the monotonic clock or the one that is passed in."""

    def __init__(self, budget_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._end_s = now_s() + budget_s

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._now_s())


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cut off when `stop` is set; raises Stopped then."""
    working = asyncio.create_task(work, name="work")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            raise Stopped("stopped before it was done")
        return await working
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, grace_s: float | None = None) -> None:
    """Run until it returns; SIGINT and SIGTERM set its stop event, a second one interrupts at once.

    `grace_s` None is for services: they drain, within the time that their settings give, and end with 0. A command is
    cut off after `grace_s` and exits with 128 + the signal's number, as shells have it; what does not even close within
    CLOSE_S more is left behind.

    Raises the StreamgaugeError that ended it, taken out of its exception groups; anything else as it is.
    """
    # The modules live as long as the process: a full collection that looked at them would stop all threads for 50 ms.
    gc.freeze()
    received: list[signal.Signals] = []
    try:
        asyncio.run(_with_signals(work, grace_s, received))
    except KeyboardInterrupt:
        sys.exit(130)
    except Stopped:
        if grace_s is not None and received:
            sys.exit(128 + received[0])
    except BaseExceptionGroup as group:
        expected = _only_expected(group)
        if expected is None:
            raise
        raise expected from None


async def _with_signals(
    work: Callable[[asyncio.Event], Coroutine[Any, Any, None]], grace_s: float | None, received: list[signal.Signals]
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    working = asyncio.create_task(work(stop), name="work")

    def on_signal(number: signal.Signals) -> None:
        log.info("service.stopping", signal=number.name)
        loop.remove_signal_handler(number)
        if number is signal.SIGTERM:
            # What runs in a container as process 1 gets no signal that has no handler.
            signal.signal(number, lambda *_: os._exit(128 + number))
        received.append(number)
        stop.set()
        if grace_s is not None:
            loop.call_later(grace_s, working.cancel)
            loop.call_later(grace_s + CLOSE_S, os._exit, 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await _with_named_errors(working)
    except asyncio.CancelledError:
        # Cut off by us; or aiokafka has cancelled one of its own tasks, for which somebody waited: a broker has gone.
        if received:
            raise Stopped("stopped before it was done") from None
        raise


async def _with_named_errors(working: asyncio.Task[None]) -> None:
    try:
        await working
    except* KafkaError as group:
        raise StreamgaugeError(f"Kafka: {most_telling(group)!r}") from group


def _only_expected(group: BaseExceptionGroup[BaseException]) -> StreamgaugeError | None:
    """The first StreamgaugeError of a group that holds nothing else."""
    expected, unexpected = group.split(StreamgaugeError)
    if unexpected is not None or expected is None:
        return None
    first = next(leaves(expected))
    assert isinstance(first, StreamgaugeError)
    return first
