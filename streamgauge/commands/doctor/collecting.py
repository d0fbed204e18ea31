"""How a part of the picture is had, or not: within its time, and never with an error."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
from aiokafka.errors import KafkaError

from streamgauge.commands.doctor.picture import NotSeen, Unseen
from streamgauge.errors import StreamgaugeError

T = TypeVar("T")

CALL_S = 5.0
"""What one answer may take, of a broker or by HTTP."""
PART_S = 20.0
"""What all answers of a part may take: a cluster may have many groups."""


async def part(asking: Awaitable[T], what: str) -> T | Unseen:
    """What comes of `asking`; `what` it is about, for the reason."""
    try:
        async with asyncio.timeout(PART_S):
            return await asking
    except NotSeen as because:
        return Unseen(str(because))
    except TimeoutError:
        return Unseen(f"{what}: no answer in time")
    except (StreamgaugeError, KafkaError, aiohttp.ClientError, OSError) as error:
        return Unseen(f"{what}: {error or type(error).__name__}")
