"""The text of a prediction, read where it stood in the input topic, as long as that is retained."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamgauge.events import Position
from streamgauge.kafka import answered
from streamgauge.settings import KafkaSettings
from streamgauge.topic_reading import polls_up_to, topic_reader
from worker import intake
from worker.outcomes import Accepted, InputRecord

FETCH_OPTIONS = {"max_partition_fetch_bytes": 65_536, "fetch_max_wait_ms": 20}
"""One text is wanted, not all that follow it; and at the end of a partition the next question does not wait long."""


def text_of(record: InputRecord, source: Position) -> str | None:
    """The text of the record that stands at `source` now; None when it is not the one that stood there then.

    The topic may have been made again: then another text has the offset, and would get a label that is not its own.
    """
    if (record.offset, record.timestamp) != (source.offset, source.timestamp_ms):
        return None
    decoded = intake.decode(record, max_text_bytes=sys.maxsize)
    return decoded.text if isinstance(decoded, Accepted) else None


class Texts:
    """The texts of the input topic, read one at a time."""

    def __init__(self, kafka: KafkaSettings, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._kafka, self._consumer, self._partitions = kafka, consumer, partitions
        self._begins: Mapping[TopicPartition, int] = {}
        self._ends: Mapping[TopicPartition, int] = {}

    @property
    def partitions(self) -> int:
        """So many are read."""
        return len(self._partitions)

    async def look(self) -> None:
        """Ask which positions are retained now. Raises StreamgaugeError when Kafka is silent."""
        own = list(self._partitions)
        self._begins = await answered(
            self._kafka, self._consumer.beginning_offsets(own), "first offsets were asked for"
        )
        self._ends = await answered(self._kafka, self._consumer.end_offsets(own), "ends were asked for")

    def has(self, source: Position) -> bool:
        """Whether that position was retained at the last look. Asks nobody."""
        tp = TopicPartition(source.topic, source.partition)
        return tp in self._begins and self._begins[tp] <= source.offset < self._ends[tp]

    async def at(self, source: Position) -> str | None:
        """The text; None when it is not retained any more. Raises StreamgaugeError when Kafka is silent."""
        if not self.has(source):
            return None
        tp = TopicPartition(source.topic, source.partition)
        self._consumer.assign([tp])
        self._consumer.seek(tp, source.offset)
        found = None
        # Where it has been deleted meanwhile, the position moves beyond it.
        async for polled in polls_up_to(self._consumer, {tp: source.offset + 1}, self._kafka, max_records=1):
            for record in polled.get(tp, ()):
                found = text_of(record, source) or found
        self._consumer.pause(tp)
        return found


@asynccontextmanager
async def text_reader(kafka: KafkaSettings, topic: str, partitions: int) -> AsyncIterator[Texts]:
    """Of the input topic, which has so many partitions. Raises StreamgaugeError when no broker answers."""
    own = [TopicPartition(topic, number) for number in range(partitions)]
    async with topic_reader(kafka, **FETCH_OPTIONS) as consumer:
        consumer.assign(own)
        consumer.pause(*own)
        texts = Texts(kafka, consumer, own)
        await texts.look()
        yield texts
