"""Reading topics without a group, as commands do: committed records only, from a position on, never in silence."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import answered, close_consumer, persistently, service_options
from streamgauge.lifecycle import Deadline
from streamgauge.settings import KafkaSettings

POLL_MS = 500
MAX_POLL_RECORDS = 1000
"""A batch holds millions of records that are empty: as objects they take fifty times as much."""

Polled = Mapping[TopicPartition, Sequence[Any]]
"""Records by partition, in their order."""


@asynccontextmanager
async def topic_reader(kafka: KafkaSettings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed records, without a group; `options`: others of aiokafka's. Raises StreamgaugeError when
    no broker answers.
    """
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=MAX_POLL_RECORDS,
        **service_options(kafka),
        **options,
    )
    try:
        starting = persistently(consumer.start, kafka.connect_timeout_s)
        await answered(kafka, starting, "a reader was connecting")
        yield consumer
    finally:
        await close_consumer(consumer)


async def polls_up_to(
    consumer: AIOKafkaConsumer,
    ends: Mapping[TopicPartition, int],
    kafka: KafkaSettings,
    max_records: int | None = None,
) -> AsyncIterator[Polled]:
    """The records before `ends` in the assigned partitions, and an empty poll where only markers were passed.
    `max_records` bounds each poll.

    Raises StreamgaugeError when nothing comes for `connect_timeout_s`.
    """
    deadline = Deadline(kafka.connect_timeout_s)
    positions = {tp: await consumer.position(tp) for tp in ends}
    while any(positions[tp] < end for tp, end in ends.items()):
        polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=max_records)
        yield {tp: [record for record in records if record.offset < ends[tp]] for tp, records in polled.items()}
        before, positions = positions, {tp: await consumer.position(tp) for tp in ends}
        if positions != before:
            deadline = Deadline(kafka.connect_timeout_s)
        elif not deadline.left_s:
            where = next(
                f"{tp.topic}-{tp.partition} at {positions[tp]}" for tp, end in ends.items() if positions[tp] < end
            )
            raise StreamgaugeError(f"Kafka sent nothing for {kafka.connect_timeout_s:g} s: {where}, of {ends}")
