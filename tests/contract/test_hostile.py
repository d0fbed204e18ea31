"""What others do to a stream, and what fails on the way: records that cannot be parsed, outputs that hang or refuse."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka.producer.message_accumulator as accumulator
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings
from streamgauge.errors import ConfigurationError
from streamgauge.events import Feedback, Reason, encode
from tests.cluster import Kafka, Stream, until
from tests.contract.test_worker import running
from tests.echo import EchoModel
from tests.oracle import Input, generate, judge
from worker.output import OutputRecord
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.transaction import OffsetAfter, Writer, fenced_writer


class Unencodable(str):
    """A header's name that goes out as bytes which are not UTF-8, as other languages' clients allow."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


async def send_unreadable(stream: Stream, topic: str, partition: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Publish a record with such a header; returns its offset."""
    with monkeypatch.context() as patch:
        patch.setattr(accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
        async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
            batch = producer.create_batch()
            batch.append(key=None, value=b"text", timestamp=None, headers=[(Unencodable("x"), b"")])
            metadata = await (await producer.send_batch(batch, topic, partition=partition))
            return int(metadata.offset)


async def test_records_that_cannot_be_parsed_become_dead_letters(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header name that is not UTF-8 stops nothing: that record is a dead letter, its neighbours have results."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(300, seed=31))
    for partition in (0, 0, 1):
        offset = await send_unreadable(stream, stream.topics.input, partition, monkeypatch)
        inputs[partition, offset] = Input(b"", Reason.UNREADABLE)
    inputs |= await stream.publish(generate(300, seed=32))
    async with running(stream):
        outputs = await stream.read(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean


async def test_the_listener_passes_what_cannot_be_parsed(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Labels before and behind such a record are counted."""
    stream, stop = await Stream.create(kafka.bootstrap_servers, partitions=1), asyncio.Event()
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(stream.topics.feedback, encode(Feedback(id="a", label="POSITIVE")))
        await send_unreadable(stream, stream.topics.feedback, 0, monkeypatch)
        await producer.send_and_wait(stream.topics.feedback, encode(Feedback(id="b", label="POSITIVE")))
    registry = CollectorRegistry()
    listener = Listener(stream.kafka, stream.topics, ListenerSettings(store=tmp_path / "listener.sqlite"), registry)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(stop))
        await listener.applied()
        assert registry.get_sample_value("streamgauge_labels", {"age": "recent"}) == 2
        stop.set()


async def test_the_chosen_start_is_chosen_once(kafka: Kafka) -> None:
    """A group that was told to start at the end stays there: what comes between two starts is scored."""
    stream = await Stream.create(kafka.bootstrap_servers, start_group=False)
    await stream.publish(generate(10, seed=33))
    async with running(stream, start_from="latest") as registry:
        await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == stream.partitions)
    inputs = await stream.publish(generate(50, seed=34))
    async with running(stream):
        outputs = await stream.read(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean


async def test_a_topic_that_lost_records_is_refused(kafka: Kafka) -> None:
    """A committed offset beyond the end is named, not skipped to."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1, start_group=False)
    tp = TopicPartition(stream.topics.input, 0)
    settings = WorkerSettings(group=stream.group)
    async with fenced_writer(stream.kafka, stream.topics, settings, tp, 10_000) as writer:
        await writer.commit([], lambda _sent: OffsetAndMetadata(150, ""))
    with pytest.raises(ExceptionGroup) as caught:
        async with running(stream):
            await asyncio.Event().wait()
    assert caught.group_contains(ConfigurationError, match="is at 150 of .*, which ends at 0")


async def test_an_output_without_the_partition_is_refused(kafka: Kafka) -> None:
    """A writer is not opened where an output topic lacks the input's partition."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    tp = TopicPartition(stream.topics.input, 1)
    with pytest.raises(ConfigurationError, match=r"results has no partition 1\nrun: streamgauge topics create"):
        async with fenced_writer(stream.kafka, stream.topics, WorkerSettings(), tp, 10_000):
            raise AssertionError


class HangingWriter:
    """Commits only when told to."""

    def __init__(self, inner: Writer, go: asyncio.Event) -> None:
        self._inner, self._go = inner, go

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        await self._go.wait()
        await self._inner.commit(records, offset_after)


async def test_a_stuck_partition_starves_no_other(kafka: Kafka) -> None:
    """While one partition's transaction hangs, all records of the other are scored; then its own are as well."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(8000, seed=35))
    go, stop = asyncio.Event(), asyncio.Event()
    settings = WorkerSettings(group=stream.group)
    worker = Worker(stream.kafka, stream.topics, settings, CollectorRegistry(), EchoModel())

    @asynccontextmanager
    async def open_writer(tp: TopicPartition) -> AsyncIterator[Writer]:
        async with fenced_writer(stream.kafka, stream.topics, settings, tp, 1_000_000) as writer:
            yield HangingWriter(writer, go) if tp.partition == 0 else writer

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stop, open_writer))
        others = await stream.read(at_least=4000)
        assert {record.partition for record in others} == {1}
        go.set()
        outputs = await stream.read(at_least=8000)
        stop.set()
    assert judge(inputs, outputs).is_clean


async def test_a_failed_writer_leaves_nothing_running(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the output cannot be written transactions are given up and redone; no client goes on behind our back."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(200, seed=36))
    is_down = True
    send = AIOKafkaClient.send

    async def failing(self: AIOKafkaClient, node_id: int, request: Any, **options: Any) -> Any:
        if is_down and isinstance(request, ProduceRequest):
            raise KafkaConnectionError("injected")
        return await send(self, node_id, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", failing)
    async with running(stream, transaction_timeout_s=0.5) as registry:
        aborted = "streamgauge_transactions_total", {"outcome": "aborted"}
        await until(lambda: (registry.get_sample_value(*aborted) or 0) >= 4)
        is_down = False
        outputs = await stream.read(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in names if name.startswith(("Sender.", "MessageAccumulator."))]
