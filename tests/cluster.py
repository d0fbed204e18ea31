"""What tests do with a real Kafka: fresh topics, publish, read everything that is committed."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewPartitions
from aiokafka.structs import TopicPartition

from streamgauge.kafka import admin_client
from streamgauge.provisioning import describe, make_right
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.oracle import Input

ROOT = Path(__file__).parents[1]


class Kafka(NamedTuple):
    """A running Kafka that tests share: each makes topics and groups of its own name."""

    bootstrap_servers: str


@dataclass(frozen=True)
class Stream:
    """Topics of a test's own, and the group that works on them."""

    kafka: KafkaSettings
    topics: TopicSettings
    group: str
    partitions: int

    @classmethod
    async def create(
        cls, bootstrap_servers: str, partitions: int = 2, *, start_group: bool = True, **topics: Any
    ) -> "Stream":
        """Topics with a name nobody else has; the group starts at the beginning unless told not to."""
        name = f"t{uuid.uuid4().hex[:10]}"
        stream = cls(
            KafkaSettings(bootstrap_servers=bootstrap_servers), TopicSettings(prefix=name, **topics), name, partitions
        )
        group = name if start_group else f"{name}-other"
        async for _line in make_right(stream.kafka, stream.topics, group, partitions, None, dry_run=False):
            pass
        return stream

    async def grow(self, partitions: int, *topics: str) -> None:
        """More partitions for these topics, in this order; the broker tells of them when this returns."""
        async with admin_client(self.kafka) as admin:
            for topic in topics:
                await admin.create_partitions({topic: NewPartitions(partitions)})
                while (await describe(admin, [topic]))[topic].partitions < partitions:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def publish(self, inputs: Sequence[Input]) -> dict[tuple[int, int], Input]:
        """Spread over the partitions; returns the inputs by (partition, offset)."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers, linger_ms=5) as producer:
            sent = [
                await producer.send(self.topics.input, item.value, partition=number % self.partitions)
                for number, item in enumerate(inputs)
            ]
            metadata = await asyncio.gather(*sent)
        return {(where.partition, where.offset): item for where, item in zip(metadata, inputs, strict=True)}

    async def read(self, topics: Iterable[str] | None = None, *, at_least: int = 0) -> list[Any]:
        """All committed records of these topics (default: results and dead letters), once there are `at_least` many.

        The whole end is awaited as well: what is committed when this is called is never missed.
        """
        names = list(topics or (self.topics.results, self.topics.dead_letter))
        async with self._reader(names) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            return await _read(consumer, ends, at_least)

    async def outputs(self, *, at_least: int = 0) -> list[Any]:
        """What `judge` wants: results and dead letters as `read` does, then all of the audit that goes with them."""
        outcomes = await self.read(at_least=at_least)
        async with self._reader([self.topics.audit]) as consumer:
            # The ends for those who see everything: the marker that ends a transaction comes later to some partitions.
            return outcomes + await _read(consumer, await self._ends(consumer.assignment()), 0)

    @asynccontextmanager
    async def _reader(self, names: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
        """From the beginning of these topics."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers, isolation_level="read_committed"
        ) as consumer:
            partitions = [TopicPartition(name, number) for name in names for number in range(self.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            yield consumer

    async def _ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers) as consumer:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
            return ends

    async def committed(self) -> dict[int, int | None]:
        """The group's committed offsets by partition."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers, group_id=self.group, enable_auto_commit=False
        ) as consumer:
            partitions = [TopicPartition(self.topics.input, number) for number in range(self.partitions)]
            consumer.assign(partitions)
            return {tp.partition: await consumer.committed(tp) for tp in partitions}

    @property
    def worker_environment(self) -> dict[str, str]:
        """What `python -m worker` needs to work on this stream."""
        return os.environ | {
            "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "STREAMGAUGE_TOPIC_PREFIX": self.topics.prefix,
            "STREAMGAUGE_WORKER_GROUP": self.group,
            "STREAMGAUGE_WORKER_HTTP_PORT": "0",
        }

    async def all_committed(self, next_offset: int) -> None:
        """Wait until the group has committed up to `next_offset` in every partition."""
        while set((await self.committed()).values()) != {next_offset}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _read(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], at_least: int) -> list[Any]:
    records: list[Any] = []
    while len(records) < at_least or any([await consumer.position(tp) < end for tp, end in ends.items()]):
        for fetched in (await consumer.getmany(timeout_ms=200)).values():
            records += fetched
    return records


async def worker_refusal(stream: Stream) -> tuple[int | None, str]:
    """Run the real worker until it ends by itself; returns its exit code and what it wrote to standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", env=stream.worker_environment, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    try:
        _output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, errors.decode()


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that nothing announces; the test's own timeout bounds it."""
    while not fact():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
