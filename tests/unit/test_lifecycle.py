"""What a signal, a deadline and a client that gives up make of a piece of work."""

import asyncio
import os
import signal

import pytest

from streamgauge.errors import Stopped, StreamgaugeError
from streamgauge.lifecycle import run, unless_stopped


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_work_is_cut_off_when_stop_is_set() -> None:
    """It is cancelled, and the caller is told by Stopped; before that its result is returned."""
    stop = asyncio.Event()

    async def answer() -> int:
        return 7

    assert await unless_stopped(stop, answer()) == 7
    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(Stopped):
        await unless_stopped(stop, for_ever())


async def test_an_error_of_the_work_is_the_callers() -> None:
    """It comes as it is, not in a group."""

    async def fail() -> None:
        raise StreamgaugeError("no")

    with pytest.raises(StreamgaugeError, match="no"):
        await unless_stopped(asyncio.Event(), fail())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_at_a_signal_as_shells_have_it(number: signal.Signals) -> None:
    """Exit code 128 and the number; what it waited for does not matter."""

    async def hang(_stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await for_ever()

    with pytest.raises(SystemExit) as ended:
        run(hang, grace_s=0.0)
    assert ended.value.code == 128 + number


def test_a_command_may_use_its_grace() -> None:
    """What it says then counts, as how much it has sent."""

    async def sum_up(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        raise StreamgaugeError("stopped; 3 of 5")

    with pytest.raises(StreamgaugeError, match="3 of 5"):
        run(sum_up, grace_s=60.0)


def test_a_service_drains_and_a_client_that_gives_up_then_is_no_error() -> None:
    """aiokafka cancels tasks of its own when a broker has gone; whoever waits for one is told by CancelledError."""

    async def drain(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        gone = asyncio.create_task(for_ever())
        asyncio.get_running_loop().call_soon(gone.cancel)
        await gone

    run(drain)
