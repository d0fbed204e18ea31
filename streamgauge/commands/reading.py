"""Reading a topic from a moment on, as a person at a terminal asks for it: committed records only, no group."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamgauge.errors import ConfigurationError
from streamgauge.kafka import admin_client, answered
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings
from streamgauge.topic_reading import topic_reader

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """A length of time as people write it: `90s`, `5m`, `1h`, `7d`. Raises ConfigurationError."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not match or not int(match[1]):
        raise ConfigurationError(f"{text}: a length of time is written 90s, 5m, 1h or 7d")
    return int(match[1]) * UNITS_S[match[2]]


def moment_ms(text: str, now_ms: int) -> int:
    """When to read from, in ms since the epoch: so long ago, `earliest`, or a time in ISO 8601, by default UTC."""
    if text == "earliest":
        return 0
    if re.fullmatch(r"\d+[smhd]", text):
        return max(0, now_ms - round(seconds(text) * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text}: give 1h (so long ago), earliest, or a time such as 2026-01-31T12:00"
        ) from None
    return max(0, round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))


@asynccontextmanager
async def reader(kafka: KafkaSettings, topic: str, since_ms: int | None) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the first record that is not older than `since_ms`, or at the end.

    Raises TopicsUnfit when there is no such topic.
    """
    async with admin_client(kafka) as admin:
        count = (await check_exist(admin, [topic], "Read"))[topic]
    async with topic_reader(kafka) as consumer:
        await begin_at(kafka, consumer, [TopicPartition(topic, number) for number in range(count)], since_ms)
        yield consumer


async def begin_at(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since_ms: int | None
) -> None:
    """Assign these partitions, each at its first record that is not older than `since_ms`, or at the end."""
    consumer.assign(partitions)
    starts = await answered(kafka, _starts(consumer, partitions, since_ms), "offsets were asked for")
    for tp, offset in starts.items():
        consumer.seek(tp, offset)


async def _starts(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since_ms: int | None
) -> dict[TopicPartition, int]:
    starts: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    if since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        starts |= {tp: start.offset for tp, start in found.items() if start}
    return starts
