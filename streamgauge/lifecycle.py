"""From signals to an orderly end: a signal sets an event, services drain and return, errors become exit codes."""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import structlog
from aiokafka.errors import KafkaError

from streamgauge.errors import StreamgaugeError

log = structlog.get_logger(__name__)


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


def run(service: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a service until it returns; SIGINT and SIGTERM set its stop event, a second one interrupts at once.

    Raises the StreamgaugeError that ended it, taken out of its exception groups; anything else as it is.
    """
    # The modules live as long as the process: a full collection that looked at them would stop all threads for 50 ms.
    gc.freeze()
    try:
        asyncio.run(_with_signals(service))
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseExceptionGroup as group:
        expected = _only_expected(group)
        if expected is None:
            raise
        raise expected from None


async def _with_signals(service: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        log.info("service.stopping", signal=number.name)
        loop.remove_signal_handler(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await service(stop)
    except* KafkaError as group:
        raise StreamgaugeError(f"Kafka: {_leaf(group)!r}") from group


def _only_expected(group: BaseExceptionGroup[BaseException]) -> StreamgaugeError | None:
    """The first StreamgaugeError of a group that holds nothing else."""
    expected, unexpected = group.split(StreamgaugeError)
    if unexpected is not None or expected is None:
        return None
    first = _leaf(expected)
    assert isinstance(first, StreamgaugeError)
    return first


def _leaf(error: BaseException) -> BaseException:
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
