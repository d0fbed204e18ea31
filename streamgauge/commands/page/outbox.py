"""What the page sends: each thing once, in its order, for as long as it takes.

Everything has a key. What comes again under a key that is known, after a double click or a reload, is not sent again.
While Kafka does not answer, what is to be sent waits here; the producer's own idempotence keeps a record from being
written twice when the answer was lost. So nothing that was taken is given up, unless Kafka refuses it or the page ends.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from aiokafka.errors import KafkaError

from producer.publish import Publisher
from streamgauge.errors import StreamgaugeError
from streamgauge.settings import KafkaSettings, TopicSettings

log = structlog.get_logger(__name__)

Send = Callable[[Publisher], Awaitable[object]]
"""Hands one record over."""

MAX_WAITING = 1_000
MAX_REMEMBERED = 20_000
"""Keys of what was sent; a reload comes within seconds."""
RETRY_S = 1.0


@dataclass
class Delivery:
    """What became of one thing that was to be sent."""

    send: Send
    began_s: float = field(default_factory=time.monotonic)
    problem: str | None = None
    """Why Kafka refused it."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Acknowledged, or refused."""

    @property
    def is_delivered(self) -> bool:
        return self.settled.is_set() and self.problem is None


class Outbox:
    """Of all sessions of the page. On one event loop."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._kafka, self._topics = kafka, topics
        self._known: OrderedDict[str, Delivery] = OrderedDict()
        self._waiting: deque[Delivery] = deque()
        self._came = asyncio.Event()

    @property
    def waiting(self) -> int:
        """So many are not acknowledged yet."""
        return len(self._waiting)

    @property
    def waited_s(self) -> float:
        """For how long the oldest of these has waited; 0 when nothing waits."""
        return time.monotonic() - self._waiting[0].began_s if self._waiting else 0.0

    def put(self, key: str, send: Send) -> Delivery:
        """Take something that is to be sent; if the key is known already, only tell what became of it.

        Raises StreamgaugeError, and takes nothing, when too much is waiting.
        """
        if key in self._known:
            return self._known[key]
        if len(self._waiting) >= MAX_WAITING:
            raise StreamgaugeError(f"{MAX_WAITING} things wait to be sent already; this one was not taken")
        delivery = Delivery(send)
        self._known[key] = delivery
        self._waiting.append(delivery)
        self._came.set()
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return delivery

    def get(self, key: str) -> Delivery | None:
        """What became of it, if it was ever taken and is still remembered."""
        return self._known.get(key)

    async def emptied(self) -> None:
        """Wait until nothing waits any more."""
        while self._waiting:
            await self._waiting[-1].settled.wait()

    async def run(self) -> None:
        """Send until cancelled. After a record was refused the publisher is of no more use, and another one begins."""
        while True:
            try:
                async with Publisher(self._kafka, self._topics) as publisher:
                    while not publisher.failed:
                        await self._send_next(publisher)
            except StreamgaugeError as error:
                log.warning("page.not_sending", problem=str(error), waiting=self.waiting)
                await asyncio.sleep(RETRY_S)

    async def _send_next(self, publisher: Publisher) -> None:
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        delivery = self._waiting[0]
        try:
            await delivery.send(publisher)
            await _acknowledged(publisher)
        except StreamgaugeError as error:
            if isinstance(error.__cause__, KafkaError) and error.__cause__.retriable and not publisher.failed:
                await asyncio.sleep(RETRY_S)
                return  # it was not handed over, and is tried again
            delivery.problem = str(error)
        self._waiting.popleft()
        delivery.settled.set()


async def _acknowledged(publisher: Publisher) -> None:
    """Wait as long as it takes: what was handed over will be written, so it may not be sent once more."""
    while True:
        try:
            await publisher.flush()
        except StreamgaugeError:
            if publisher.failed:
                raise
        else:
            return
