"""When standing still is a fault."""

import asyncio
import itertools

import pytest

from streamgauge.errors import StreamgaugeError
from worker.watchdog import Watchdog


async def test_standing_still_with_lag_turns_red_then_ends() -> None:
    """Red once the timeout has passed, and after twice that the process ends with the reason."""
    seen: list[str | None] = []

    async def has_lag() -> bool:
        seen.append(dog.problem())
        return True

    dog = Watchdog(0.06, has_lag)
    with pytest.raises(StreamgaugeError, match=r"nothing has moved for .* although there is lag"):
        await dog.watch()
    assert seen[0] is None
    assert seen[-1]
    dog.moved()
    assert dog.problem() is None


async def test_standing_still_without_lag_is_fine() -> None:
    """Idle, or with a broker that cannot tell, nothing is wrong."""
    asked = asyncio.Event()
    times = itertools.count(1)

    async def has_lag() -> bool:
        if next(times) == 3:
            asked.set()
        return False

    dog = Watchdog(0.03, has_lag)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(dog.watch())
        await asked.wait()
        assert dog.problem() is None
        watching.cancel()
