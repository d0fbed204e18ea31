"""Notices when nothing is committed although there is something to do; never judges the broker's health."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from streamgauge.errors import StreamgaugeError

log = structlog.get_logger(__name__)

CHECKS_PER_TIMEOUT = 6


class Watchdog:
    """Red after `timeout_s` without a commit while there is lag; after twice that, the process ends.

    `has_lag` is asked only when nothing was committed for long. It answers False when the broker cannot tell: a new
    process would not help then. `clock` tells seconds from any beginning.
    """

    def __init__(
        self, timeout_s: float, has_lag: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout_s, self._has_lag, self._clock = timeout_s, has_lag, clock
        self._began_s = clock()
        self._had_lag = False
        self._problem: str | None = None

    def begin_anew(self) -> None:
        """Something was committed; or Kafka is not able to just now, and a new process would not help."""
        self._began_s = self._clock()
        self._problem = None

    def problem(self) -> str | None:
        """None, or why this process should be replaced."""
        return self._problem

    async def watch(self) -> None:
        """Check until cancelled. Raises StreamgaugeError when the process is beyond help."""
        while True:
            await asyncio.sleep(self._timeout_s / CHECKS_PER_TIMEOUT)
            await self.check()

    async def check(self) -> None:
        """Look once. Raises StreamgaugeError when the process is beyond help."""
        still_s = self._clock() - self._began_s
        if still_s < self._timeout_s:
            self._had_lag = False
            return
        if not await self._has_lag():
            self.begin_anew()
            return
        if not self._had_lag:
            self._had_lag = True  # a record may have come this very moment, after hours without one
            return
        self._problem = f"nothing was committed for {still_s:.0f} s although there is lag"
        log.error("worker.stalled", still_s=round(still_s))
        if still_s >= 2 * self._timeout_s:
            raise StreamgaugeError(self._problem)
