"""How long readers wait: after a kill, over a planned stop, and beside a frozen replica. Figures are printed."""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.cluster import Kafka, Stream, until
from tests.faults.replica import Replica

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="replicas are watched through /proc"),
]

SESSION_S = 3.0
PARTITIONS = 4
PUBLISHED_PER_S = 50


class Watch:
    """A read_committed reader that remembers when it saw results, by partition, on the monotonic clock."""

    def __init__(self) -> None:
        self.seen_s: dict[int, list[float]] = {partition: [] for partition in range(PARTITIONS)}

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for tp in await consumer.getmany(timeout_ms=500):
                self.seen_s[tp.partition].append(time.monotonic())

    async def flowing(self, partitions: set[int], since_s: float) -> None:
        """Wait until each of these partitions has shown results after `since_s`."""
        await until(lambda: all(self.seen_s[p] and self.seen_s[p][-1] > since_s for p in partitions))

    def longest_wait_s(self, partitions: set[int], since_s: float) -> float:
        """The longest time, from `since_s` on, between two arrivals on one of these partitions."""
        waits = []
        for partition in partitions:
            times = [since_s, *(at for at in self.seen_s[partition] if at > since_s)]
            waits += [later - earlier for earlier, later in itertools.pairwise(times)]
        return max(waits)


@asynccontextmanager
async def flow(stream: Stream) -> AsyncIterator[Watch]:
    """Texts flow into all partitions, and results are watched."""

    async def publish(producer: AIOKafkaProducer) -> None:
        for number in itertools.count():
            await producer.send(stream.topics.input, b"text %d" % number, partition=number % PARTITIONS)
            await asyncio.sleep(1 / PUBLISHED_PER_S)

    servers, watch = stream.kafka.bootstrap_servers, Watch()
    async with (
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        AIOKafkaConsumer(
            stream.topics.results, bootstrap_servers=servers, isolation_level="read_committed"
        ) as consumer,
        asyncio.TaskGroup() as tasks,
    ):
        running = [tasks.create_task(publish(producer)), tasks.create_task(watch.run(consumer))]
        yield watch
        for task in running:
            task.cancel()


def owned(replica: Replica) -> set[int]:
    """The partitions whose last word in the replica's log is that they were opened."""
    events = [json.loads(line) for line in replica.log.splitlines()]
    last = {event["partition"]: event["event"] for event in events if event["event"].startswith("partition.")}
    return {partition for partition, event in last.items() if event == "partition.opened"}


@asynccontextmanager
async def two_replicas(stream: Stream, log_dir: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two workers that own two partitions each."""
    async with AsyncExitStack() as stack:
        settings = {"session_timeout_s": SESSION_S}
        one, two = [
            await stack.enter_async_context(Replica(stream, name, log_dir, settings=settings))
            for name in ("one", "two")
        ]
        await until(lambda: len(owned(one)) == len(owned(two)) == PARTITIONS // 2)
        yield one, two


async def test_a_killed_replicas_partitions_are_taken_over(kafka: Kafka, tmp_path: Path) -> None:
    """After SIGKILL readers see new results on every partition within the session timeout and 5 s."""
    stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
    async with two_replicas(stream, tmp_path) as (one, _two), flow(stream) as watch:
        await watch.flowing(set(range(PARTITIONS)), 0)
        mine, killed_s = owned(one), time.monotonic()
        one.send(signal.SIGKILL)
        await watch.flowing(mine, killed_s + 1)
        waited_s = watch.longest_wait_s(mine, killed_s)
    print(f"killed: readers of its partitions waited {waited_s:.2f} s (session timeout {SESSION_S:g} s)")
    assert waited_s < SESSION_S + 5


async def test_a_planned_stop_hands_over_at_once(kafka: Kafka, tmp_path: Path) -> None:
    """After SIGTERM readers see new results on every partition within 3 s."""
    stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
    async with two_replicas(stream, tmp_path) as (one, two), flow(stream) as watch:
        await watch.flowing(set(range(PARTITIONS)), 0)
        stopped_s = time.monotonic()
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
        await until(lambda: len(owned(two)) == PARTITIONS)
        await watch.flowing(set(range(PARTITIONS)), time.monotonic())
        waited_s = watch.longest_wait_s(set(range(PARTITIONS)), stopped_s)
    print(f"planned stop: readers waited {waited_s:.2f} s")
    assert waited_s < 3


async def test_a_frozen_replica_holds_up_nobody_else(kafka: Kafka, tmp_path: Path) -> None:
    """Until the group gives the frozen replica up, readers of other partitions see results as before."""
    stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
    async with two_replicas(stream, tmp_path) as (one, two), flow(stream) as watch:
        await watch.flowing(set(range(PARTITIONS)), 0)
        others, frozen_s = owned(two), time.monotonic()
        one.send(signal.SIGSTOP)
        await watch.flowing(others, frozen_s + SESSION_S * 0.8)
        waited_s = watch.longest_wait_s(others, frozen_s)
        one.send(signal.SIGCONT)
    print(f"frozen neighbour: readers of other partitions waited {waited_s:.2f} s")
    assert waited_s < SESSION_S / 2
