"""A worker that cannot commit says so: by its probes, by the absence of its lag, and by its end where that helps."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import InvalidTxnState
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.errors import StreamgaugeError
from tests.cluster import Kafka, Stream, until
from tests.echo import EchoModel
from tests.oracle import generate
from worker import lag
from worker.output import OutputRecord
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.transaction import OffsetAfter, Writer, fenced_writer

STALL_S = 2.0
"""Partitions are opened within twice that also on a busy machine."""


class Scene:
    """A worker, and its end as a task of the test."""

    def __init__(self, stream: Stream, **settings: Any) -> None:
        self.stream, self.registry, self.stop = stream, CollectorRegistry(), asyncio.Event()
        self.settings = WorkerSettings(group=stream.group, session_timeout_s=6, **settings)
        self.worker = Worker(stream.kafka, stream.topics, self.settings, self.registry, EchoModel())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"streamgauge_{name}", labels)

    async def fail(self, error: Exception | None) -> None:
        """Run with a writer whose commits of records fail; without an error, they never end."""

        class Failing:
            def __init__(self, writer: Writer) -> None:
                self._writer = writer

            async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
                if records and error:
                    raise error
                if records:
                    await asyncio.Event().wait()
                await self._writer.commit(records, offset_after)

        @asynccontextmanager
        async def open_writer(tp: TopicPartition) -> AsyncIterator[Writer]:
            topics, limit = self.stream.topics, self.stream.topics.max_message_bytes
            async with fenced_writer(self.stream.kafka, topics, self.settings, tp, limit) as writer:
                yield Failing(writer)

        await self.worker.run(self.stop, open_writer)


async def test_a_silent_broker_is_not_an_empty_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is not ready, and its lag is absent, until the broker answers; a new process would not help."""
    monkeypatch.setattr(lag, "SILENT_S", 3.0)
    monkeypatch.setattr(lag, "ASK_EVERY_S", 0.2)
    with EmbeddedKafka() as kafka:
        scene = Scene(await Stream.create(kafka.bootstrap_servers, partitions=1))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.worker.run(scene.stop))
            await until(lambda: scene.value("lag_records", partition="0") == 0)
            assert (scene.worker.ready(), scene.value("worker_ready")) == (None, 1)
            [broker] = kafka.nodes
            broker.kill(signal.SIGSTOP)
            await until(lambda: scene.value("lag_records", partition="0") is None)
            assert "no broker has answered for" in str(scene.worker.ready())
            assert (scene.value("worker_ready"), scene.value("lag_seconds", partition="0")) == (0, None)
            assert scene.value("input_end_offset", partition="0") is None
            assert (scene.value("input_partitions"), scene.value("partitions_owned")) == (None, None)
            assert scene.worker.live() is None
            broker.kill(signal.SIGCONT)
            await until(lambda: scene.worker.ready() is None)
            await until(lambda: scene.value("lag_records", partition="0") == 0)
            assert (scene.value("input_partitions"), scene.value("partitions_owned")) == (1, 1)
            scene.stop.set()


async def test_lag_is_of_now(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing more is fetched: brokers are asked for it."""
    monkeypatch.setattr(lag, "ASK_EVERY_S", 0.2)
    scene = Scene(await Stream.create(kafka.bootstrap_servers, partitions=1), max_records=10, drain_budget_s=0.5)
    await scene.stream.publish(generate(20, seed=1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.fail(None))
        await until(lambda: scene.value("lag_records", partition="0") == 20)
        assert scene.value("input_end_offset", partition="0") == 20
        await scene.stream.publish(generate(80, seed=2))
        await until(lambda: scene.value("lag_records", partition="0") == 100)
        assert scene.value("input_end_offset", partition="0") == 100
        scene.stop.set()


async def test_a_worker_that_only_fails_is_replaced(kafka: Kafka) -> None:
    """An attempt that failed is no progress, however often it is made; the probes tell of it before the end."""
    scene = Scene(await Stream.create(kafka.bootstrap_servers, partitions=1), stall_timeout_s=3)
    await scene.stream.publish(generate(20, seed=1))
    seen = set()

    async def watch() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.fail(InvalidTxnState()))
            await until(lambda: scene.worker.ready() == "1 partitions cannot be committed: InvalidTxnState")
            seen.add("not ready")
            await until(lambda: scene.worker.live() is not None)
            seen.add("not alive")
            await until(lambda: False)

    with pytest.raises(ExceptionGroup) as raised:
        await watch()
    assert raised.group_contains(StreamgaugeError, match=r"nothing was committed for \d+ s although there is lag")
    assert seen == {"not ready", "not alive"}


async def test_a_worker_that_waits_for_kafka_is_not_replaced(kafka: Kafka) -> None:
    """Coordinators that load, or too few replicas, end an attempt by its timeout: not ready, but alive."""
    scene = Scene(await Stream.create(kafka.bootstrap_servers, partitions=1), stall_timeout_s=STALL_S)
    await scene.stream.publish(generate(20, seed=1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.fail(TimeoutError()))
        # Half of the back-off is the least between two of them: together they take more than two timeouts.
        await until(lambda: (scene.value("partition_reopens_total") or 0) >= 2.5 * STALL_S / 0.25)
        await until(lambda: scene.worker.ready() == "1 partitions cannot be committed: TimeoutError")
        assert scene.worker.live() is None
        scene.stop.set()
