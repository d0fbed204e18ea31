"""Keeps what is known of a stack up to date. What cannot be asked is named, and what it told before is forgotten."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from aiokafka.errors import KafkaError

from streamgauge.commands.top.flow import COLUMN_S
from streamgauge.commands.top.following import Follower
from streamgauge.commands.top.looking import Looks
from streamgauge.commands.top.picture import Known, Part
from streamgauge.errors import AccessDenied, StreamgaugeError
from streamgauge.settings import KafkaSettings, TopicSettings

PATIENCE_S = 5.0
"""For an answer: a person looks at the screen meanwhile."""
AGAIN_S = 1.0


class Sources(NamedTuple):
    """What to ask besides Kafka's topics, and whether for texts as well."""

    workers: Sequence[str]
    """Where they serve `/metrics`; as URLs, without that."""
    listeners: Sequence[str]
    with_texts: bool


class Watch:
    """Of one deployment."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, group: str, sources: Sources) -> None:
        patience_s = min(PATIENCE_S, kafka.connect_timeout_s)
        self.known = Known(topics.results)
        self._looks = Looks(self.known, sources.workers, sources.listeners)
        soon = kafka.model_copy(update={"connect_timeout_s": patience_s})
        follower = Follower(self.known, soon, topics, group)
        self._patience_s = patience_s
        self._parts: dict[Part, Callable[[], Awaitable[None]]] = {"events": follower.events, "group": follower.group}
        if sources.with_texts:
            self._parts["said"] = follower.said
            self.known.said = []

    async def look(self) -> bool:
        """Ask the replicas at their URLs once; whether any has answered."""
        await self._looks.look()
        return bool(self.known.workers or self.known.listeners)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._looks.run(), name="replicas")
            tasks.create_task(self._sample(), name="history")
            for part, follow in self._parts.items():
                tasks.create_task(self._persist(part, follow), name=part)

    async def _sample(self) -> None:
        """Twice a column, so that none of a spark line stays empty, however long a look takes."""
        while True:
            self.known.sample(time.monotonic())
            await asyncio.sleep(COLUMN_S / 2)

    async def _persist(self, part: Part, follow: Callable[[], Awaitable[None]]) -> None:
        """Begin again whenever it fails."""
        while True:
            try:
                await follow()
            except TimeoutError:
                self.known.is_lost(part, f"no broker has answered for {self._patience_s:g} s")
            except (StreamgaugeError, KafkaError) as error:
                self.known.is_lost(part, _reason(error))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task and task.cancelling():
                    raise
                # aiokafka has cancelled one of its own tasks, for which somebody waited: a broker has gone.
                self.known.is_lost(part, "the connection has ended")
            await asyncio.sleep(AGAIN_S)


def _reason(error: Exception) -> str:
    """In one line, without the advice that an error at the start gives. Of missing rights each is named."""
    line = str(error).partition("\n")[0]
    return line if isinstance(error, AccessDenied) else line.partition("; ")[0]
