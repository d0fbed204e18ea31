"""What a soak asks the brokers, whichever of them are up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamgauge.kafka import admin_client
from tests.cluster import Stream

BROKER_SETTINGS = {
    # The broker looks for overdue transactions this often; by default every 10 s.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Kafka's default: a broker that is killed and started again at once is back before the others miss it.
    "broker.session.timeout.ms": "9000",
}

T = TypeVar("T")


async def ask(stream: Stream, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    """An answer of the cluster, from whichever node has one."""
    while True:
        with suppress(KafkaError, TimeoutError):
            async with admin_client(stream.kafka) as admin:
                return await question(admin)
        await asyncio.sleep(0.2)


async def in_sync(stream: Stream) -> None:
    """Wait until every partition of every topic has a leader and all its replicas in sync."""

    async def lagging(admin: AIOKafkaAdminClient) -> bool:
        topics: list[dict[str, Any]] = await admin.describe_topics()
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        return any(len(each["isr"]) < len(each["replicas"]) or each["leader"] < 0 for each in partitions)

    while await ask(stream, lagging):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
