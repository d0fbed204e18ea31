"""Which classes the latest results carry: a short look, so that a label can be checked where it is sent."""

import asyncio
from contextlib import suppress

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.events import NO_EVENT
from streamgauge.kafka import admin_client, client_options
from streamgauge.labels import Classes
from streamgauge.settings import KafkaSettings

LAST_OFFSETS = 50
"""So many of each partition are looked at."""
LOOK_S = 5.0
POLL_MS = 200
MAX_POLL_RECORDS = 1000


class _Scored(msgspec.Struct, frozen=True):
    """The part of `events.Prediction` that names the classes, in the order of the model's output."""

    scores: dict[str, float]


_decode = msgspec.json.Decoder(_Scored).decode


async def latest_classes(kafka: KafkaSettings, topic: str) -> list[Classes]:
    """The classes of each model in the last results; empty when there is no result, or it may not or cannot be read.

    Takes LOOK_S at most: it is a service to the user, and nobody's guarantee.
    """
    found: dict[Classes, None] = {}
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(LOOK_S):
            if partitions := await _partitions(kafka, topic):
                options = client_options(kafka) | {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
                async with AIOKafkaConsumer(**options) as consumer:
                    await _look(consumer, partitions, found)
    return [classes for classes in found if classes]


async def _partitions(kafka: KafkaSettings, topic: str) -> list[TopicPartition]:
    """None when there is no such topic, which a consumer that asked for it might create."""
    async with admin_client(kafka) as admin:
        described = await admin.describe_topics([topic]) if topic in await admin.list_topics() else []
    return [TopicPartition(topic, number) for one in described for number in range(len(one["partitions"]))]


async def _look(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], found: dict[Classes, None]) -> None:
    consumer.assign(partitions)
    starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    for tp in partitions:
        consumer.seek(tp, max(starts[tp], ends[tp] - LAST_OFFSETS))
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)).values():
            for record in records:
                with suppress(*NO_EVENT):
                    found[tuple(_decode(record.value or b"").scores)] = None
