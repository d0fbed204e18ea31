"""The texts of results, read from the input topic where they stood; the last ones are kept."""

import asyncio
from collections import OrderedDict
from contextlib import AsyncExitStack

from streamgauge.commands.audit_texts import Texts, text_reader
from streamgauge.errors import StreamgaugeError
from streamgauge.events import Position
from streamgauge.settings import KafkaSettings

PATIENCE_S = 5.0
"""A person waits."""
MAX_TEXTS = 2_000
MAX_SHOWN_CHARS = 4_000
"""More than a model reads of a text; kept is one more, which tells that there is more."""


class Shelf:
    """One reader for all sessions, which has one question at a time. On one event loop."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka.model_copy(update={"connect_timeout_s": PATIENCE_S})
        self._topic = topic
        self._kept: OrderedDict[Position, str | None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._open = AsyncExitStack()
        self._reader: Texts | None = None

    async def text(self, source: Position, partitions: int) -> str | None:
        """The beginning of a text; None when it is not retained any more.

        `partitions`: how many the input has. Raises StreamgaugeError when Kafka is silent for PATIENCE_S.
        """
        if source not in self._kept:
            async with self._turn:
                try:
                    found = await self._read(source, partitions)
                except StreamgaugeError:
                    await self.close()
                    raise
            self._kept[source] = found and found[: MAX_SHOWN_CHARS + 1]
            if len(self._kept) > MAX_TEXTS:
                self._kept.popitem(last=False)
        return self._kept[source]

    async def _read(self, source: Position, partitions: int) -> str | None:
        if self._reader is None or source.partition >= self._reader.partitions:
            await self.close()
            self._reader = await self._open.enter_async_context(text_reader(self._kafka, self._topic, partitions))
        elif not self._reader.has(source):
            await self._reader.look()
        return await self._reader.at(source)

    async def close(self) -> None:
        """Give the reader back; the next question opens another one."""
        self._reader = None
        await self._open.aclose()
