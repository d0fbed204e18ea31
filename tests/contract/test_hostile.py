"""What others do to a stream, and what fails on the way: records that cannot be parsed, outputs that hang or refuse."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings
from streamgauge.aiokafka_records import RawName, new_batch
from streamgauge.errors import ConfigurationError
from streamgauge.events import MAX_HEADERS, Feedback, Reason, encode, last_header
from tests.cluster import Kafka, Stream, until
from tests.contract.test_worker import running
from tests.echo import EchoModel, echo_probability
from tests.oracle import Input, generate, judge
from worker.output import OutputRecord
from worker.partitions import OPENINGS_AT_ONCE
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.transaction import OffsetAfter, Writer, fenced_writer

NAME = b"caf\xe9"
"""The name of a header in Latin-1, as other languages' clients allow."""


async def send_odd(
    stream: Stream, topic: str, partition: int, values: Sequence[bytes | None], headers: int = 1
) -> list[int]:
    """Publish records with so many headers of such a name, a batch each; returns their offsets."""
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers, max_request_size=2**21) as producer:
        offsets = []
        for value in values:
            batch = new_batch(producer, any_name=True)
            batch.append(key=None, value=value, timestamp=None, headers=[(RawName(NAME), b"1")] * headers)
            metadata = await (await producer.send_batch(batch, topic, partition=partition))
            offsets.append(int(metadata.offset))
        return offsets


async def test_any_header_name_is_read_and_written_as_it_came(kafka: Kafka) -> None:
    """A name that is not UTF-8 refuses no text, and a record that is refused for its value keeps that name's bytes."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(300, seed=31))
    for value, outcome in ((b"text", echo_probability("text")), (b"", Reason.EMPTY_TEXT), (None, Reason.NULL_VALUE)):
        [offset] = await send_odd(stream, stream.topics.input, 0, [value])
        inputs[0, offset] = Input(value or b"", outcome)
    inputs |= await stream.publish(generate(300, seed=32))
    async with running(stream):
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean
    raw = [name for record in outputs for name, _value in record.headers if isinstance(name, RawName)]
    assert [name.raw for name in raw] == [NAME] * 2


async def test_odd_records_of_one_partition_delay_no_other(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions are sought when they are assigned and when they are opened, never again: nothing is fetched twice."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=16)
    seek, sought = AIOKafkaConsumer.seek, Counter[int]()

    def counted(self: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        sought[partition.partition] += partition.topic == stream.topics.input
        seek(self, partition, offset)

    monkeypatch.setattr(AIOKafkaConsumer, "seek", counted)
    async with running(stream):
        await send_odd(stream, stream.topics.input, 0, [b"odd"] * 50)
        inputs = await stream.publish(generate(16, seed=33))
        outputs = await stream.read(at_least=50 + len(inputs))
    assert len(outputs) == 50 + len(inputs)
    assert sought == dict.fromkeys(range(16), 2)


async def test_what_holds_no_record_becomes_no_dead_letter(kafka: Kafka) -> None:
    """Aborted records and the markers of transactions are offsets without a record, beside an odd header or not."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers, transactional_id=stream.group + "-in")
    async with producer:
        for is_good, count in ((True, 1), (False, 20)):
            await producer.begin_transaction()
            for _ in range(count):
                await producer.send_and_wait(stream.topics.input, b"good")
            await (producer.commit_transaction() if is_good else producer.abort_transaction())
    await send_odd(stream, stream.topics.input, 0, [b"good"])
    [last] = (await stream.publish([Input(b"good", echo_probability("good"))])).keys()
    async with running(stream):
        await stream.all_committed(last[1] + 1)
        results = await stream.read([stream.topics.results])
        assert await stream.read([stream.topics.dead_letter]) == []
    assert len(results) == 3


async def test_too_many_headers_are_refused(kafka: Kafka) -> None:
    """So are they above what any client sends; their dead letter says so, and has the first of them."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    for headers in (MAX_HEADERS, MAX_HEADERS + 1, 50_000):
        await send_odd(stream, stream.topics.input, 0, [b"text"], headers)
    async with running(stream):
        outputs = await stream.read(at_least=3)
    result, *letters = sorted(outputs, key=lambda record: record.topic != stream.topics.results)
    assert result.topic == stream.topics.results
    for letter in letters:
        assert last_header(letter.headers, "__connect.errors.exception.class.name") == b"too_many_headers"
        assert [name for name, _value in letter.headers].count("caf\ufffd") == MAX_HEADERS
        assert letter.value == b"text"


async def test_the_listener_reads_any_header_name(kafka: Kafka, tmp_path: Path) -> None:
    """A label with such a header counts like those before and behind it."""
    stream, stop = await Stream.create(kafka.bootstrap_servers, partitions=1), asyncio.Event()
    labels = [encode(Feedback(id=name, label="POSITIVE")) for name in ("a", "b", "c")]
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(stream.topics.feedback, labels[0])
        await send_odd(stream, stream.topics.feedback, 0, [labels[1]])
        await producer.send_and_wait(stream.topics.feedback, labels[2])
    registry = CollectorRegistry()
    listener = Listener(stream.kafka, stream.topics, ListenerSettings(store=tmp_path / "listener.sqlite"), registry)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(stop))
        await listener.applied()
        assert registry.get_sample_value("streamgauge_labels", {"age": "recent"}) == 3
        stop.set()


async def test_the_chosen_start_is_chosen_once(kafka: Kafka) -> None:
    """A group that was told to start at the end stays there: what comes between two starts is scored."""
    stream = await Stream.create(kafka.bootstrap_servers, start_group=False)
    await stream.publish(generate(10, seed=33))
    async with running(stream, start_from="latest") as registry:
        await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == stream.partitions)
    inputs = await stream.publish(generate(50, seed=34))
    async with running(stream):
        outputs = await stream.outputs(at_least=len(inputs))
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
        outputs = await stream.outputs(at_least=8000)
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
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in names if name.startswith(("Sender.", "MessageAccumulator."))]


async def test_only_so_many_partitions_are_opened_at_once(kafka: Kafka) -> None:
    """Each opening has a time limit: of hundreds that are begun together none would end in time."""
    stream, stop = await Stream.create(kafka.bootstrap_servers, partitions=40), asyncio.Event()
    settings = WorkerSettings(group=stream.group)
    registry = CollectorRegistry()
    worker = Worker(stream.kafka, stream.topics, settings, registry, EchoModel())
    beginning, most = 0, 0

    @asynccontextmanager
    async def open_writer(tp: TopicPartition) -> AsyncIterator[Writer]:
        nonlocal beginning, most
        beginning += 1
        most = max(most, beginning)
        await asyncio.sleep(0.2)
        async with fenced_writer(stream.kafka, stream.topics, settings, tp, 1_000_000) as writer:
            beginning -= 1
            yield writer

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stop, open_writer))
        await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == 40)
        stop.set()
    assert most == OPENINGS_AT_ONCE
