"""The worker on a real Kafka: one outcome for each record, in order, through stops, rebalances and vanished records."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from streamgauge.errors import ConfigurationError, Stopped, StreamgaugeError
from streamgauge.events import Reason, decode_measurement, decode_prediction, last_header
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import clock_ms
from streamgauge.settings import DAY_MS, KafkaSettings, TopicSettings
from tests.blocking import MAX_BLOCKED_S, MAX_COMPUTED_S, never_blocked
from tests.cluster import Kafka, Stream, until, worker_refusal
from tests.echo import EchoModel
from tests.oracle import Input, generate, judge
from worker.model.scorer import Probabilities, TokenIds
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.transaction import Writer, fenced_writer

LOOP_LAG = "streamgauge_event_loop_lag_seconds"


class SlowModel(EchoModel):
    """So slow that there are many transactions of few texts each."""

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        time.sleep(0.005)
        return super().score(batch)


@asynccontextmanager
async def running(stream: Stream, **options: Any) -> AsyncIterator[CollectorRegistry]:
    """As `working`; its loop was never blocked after it had started."""
    with ExitStack() as watched:
        async with working(stream, **options) as registry:
            await until(lambda: bool(registry.get_sample_value(f"{LOOP_LAG}_count")))
            watched.enter_context(never_blocked())
            yield registry


@asynccontextmanager
async def working(
    stream: Stream, *, model: EchoModel | None = None, **settings: Any
) -> AsyncIterator[CollectorRegistry]:
    """A worker that works inside the block and is stopped as by SIGTERM after it."""
    registry, stop = CollectorRegistry(), asyncio.Event()
    options = WorkerSettings(group=stream.group, session_timeout_s=6, **settings)
    worker = Worker(stream.kafka, stream.topics, options, registry, model or EchoModel())

    async def work() -> None:
        with suppress(Stopped):  # a stop before it has begun is a good end, as it is for the process
            await worker.run(stop)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        yield registry
        stop.set()


async def test_a_blocked_loop_is_noticed() -> None:
    """The control of `running`: by a call that waits, and by one that computes."""

    def wait() -> None:
        time.sleep(2 * MAX_BLOCKED_S)

    def compute() -> None:
        until_s = time.thread_time() + 2 * MAX_COMPUTED_S
        while time.thread_time() < until_s:
            pass

    async def never_blocked_by(step: Callable[[], None]) -> None:
        with never_blocked():
            await asyncio.sleep(0)
            step()
            await asyncio.sleep(0.1)

    with pytest.raises(AssertionError, match="the event loop was blocked for"):
        await never_blocked_by(wait)
    with pytest.raises(AssertionError, match="it computed for"):
        await never_blocked_by(compute)


async def test_each_record_has_one_outcome_in_order(kafka: Kafka) -> None:
    """Good and bad records alike come out once, on their own partition, in offset order; offsets are committed."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=3)
    inputs = await stream.publish(generate(2000, seed=1))
    async with running(stream) as registry:
        outputs = await stream.outputs(at_least=len(inputs))
        assert registry.get_sample_value("streamgauge_partitions_owned") == 3
    assert judge(inputs, outputs).is_clean
    assert await stream.committed() == {
        partition: 1 + max(offset for number, offset in inputs if number == partition) for partition in range(3)
    }
    assert registry.get_sample_value("streamgauge_credit_records") == 0


async def test_ready_means_that_what_comes_can_be_committed(kafka: Kafka) -> None:
    """A worker that has joined its group, but cannot open a partition of its own, is not ready."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = WorkerSettings(group=stream.group, session_timeout_s=6)
    worker = Worker(stream.kafka, stream.topics, settings, CollectorRegistry(), EchoModel())
    may_open, stop = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def late_writer(tp: TopicPartition) -> AsyncIterator[Writer]:
        if tp.partition == 1:
            await may_open.wait()
        async with fenced_writer(stream.kafka, stream.topics, settings, tp, stream.topics.max_message_bytes) as writer:
            yield writer

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stop, late_writer))
        await until(lambda: worker.ready() == "1 partitions are assigned, but not opened yet")
        may_open.set()
        await until(lambda: worker.ready() is None)
        stop.set()


async def test_metric_events_cover_every_record_once(kafka: Kafka) -> None:
    """The metric events' ranges tile the input, and their outcomes add up to it."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(500, seed=2))
    async with running(stream):
        await stream.read(at_least=len(inputs))
    events = [decode_measurement(record.value) for record in await stream.read([stream.topics.metrics])]
    covered = [
        (event.partition, offset) for event in events for offset in range(event.first_offset, event.last_offset + 1)
    ]
    assert sorted(covered) == sorted(inputs)
    outcomes = sum(sum(event.labels.values()) + sum(event.dead_letters.values()) for event in events)
    assert outcomes == sum(event.records for event in events) == len(inputs)


async def test_the_audit_holds_what_is_marked(kafka: Kafka) -> None:
    """Those results whose ids are chosen, byte for byte, in their partition and order; they say at which share."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(1000, seed=9))
    async with running(stream, audit_share=0.2, commit_records=50):
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs, 0.2).is_clean
    audited = [record for record in outputs if record.topic == stream.topics.audit]
    assert 100 < len(audited) < 300
    assert {decode_prediction(record.value).audit for record in audited} == {0.2}
    async with running(stream, audit_share=0):
        more = await stream.publish(generate(100, seed=10))
        await stream.read(at_least=len(inputs) + len(more))
    assert len(await stream.read([stream.topics.audit])) == len(audited)


async def test_a_worker_without_its_audit_topic_is_refused(kafka: Kafka) -> None:
    """As after an upgrade, before `topics create`: it names the topic and the command."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with admin_client(stream.kafka) as admin:
        await admin.delete_topics([stream.topics.audit])
    code, errors = await worker_refusal(stream)
    assert (code, f"topic {stream.topics.audit} does not exist" in errors) == (2, True), errors
    assert "run: streamgauge topics create" in errors


async def test_dead_letters_carry_the_record(kafka: Kafka) -> None:
    """Key, value and repeated headers survive; the largest record and one without key and value fit too."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    largest = b"\xff" * (stream.topics.max_message_bytes - 200)
    headers = [("a", b"1"), ("a", b"2")]
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, max_request_size=2 * len(largest)
    ) as producer:
        await producer.send_and_wait(stream.topics.input, largest, b"k", headers=headers)
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None)
        await (await producer.send_batch(batch, stream.topics.input, partition=0))
    async with running(stream):
        first, second = await stream.read(at_least=2)
    assert (first.value, first.key, first.headers[:2]) == (largest, b"k", tuple(headers))
    assert last_header(first.headers, "__connect.errors.exception.class.name") == Reason.NOT_UTF8.encode()
    assert (second.value, second.key) == (None, None)


@pytest.mark.parametrize("years", [-1, 1])
async def test_a_producers_clock_moves_nothing(kafka: Kafka, years: int) -> None:
    """Times of last year or of next year expire no record, keep no dead letter longer, and are no latency."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    before_ms = clock_ms()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in (b"fine", b"\xff"):
            timestamp_ms = before_ms + years * 365 * DAY_MS
            await producer.send_and_wait(stream.topics.input, value, partition=0, timestamp_ms=timestamp_ms)
    async with running(stream):
        outcomes = {record.topic: record for record in await stream.read(at_least=2)}
        events = [decode_measurement(record.value) for record in await stream.read([stream.topics.metrics], at_least=1)]
    result, letter = outcomes[stream.topics.results], outcomes[stream.topics.dead_letter]
    told_ms = last_header(letter.headers, "streamgauge.source.timestamp_ms") or b""
    stamps_ms = [decode_prediction(result.value).source.timestamp_ms, int(told_ms), result.timestamp, letter.timestamp]
    assert all(before_ms <= stamp_ms <= clock_ms() for stamp_ms in stamps_ms)
    assert max(event.latency.max for event in events) <= (clock_ms() - before_ms) / 1000


async def test_the_broker_turns_no_request_of_a_transaction_away(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """It verifies one request of a producer at a time; a second one would be sent again after 100 ms."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(600, seed=8))
    settings = {"model_slots": 1, "max_batch_tokens": 8, "commit_records": 1, "audit_share": 0.5}
    async with running(stream, model=SlowModel(), **settings):
        await stream.read(at_least=len(inputs))
    assert len(await stream.read([stream.topics.metrics])) > 50
    assert "NotEnoughReplicas" not in caplog.text


async def test_a_stop_in_the_middle_loses_and_doubles_nothing(kafka: Kafka) -> None:
    """Workers stopped and started again and again leave each record with one outcome."""
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(6000, seed=3))
    for part in range(1, 4):
        async with running(stream) as registry:
            await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == 2)
            await stream.read(at_least=part * 1000)
    async with running(stream):
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean


async def test_replicas_share_the_partitions(kafka: Kafka) -> None:
    """A second replica takes over half of the partitions while records flow; nothing is lost or doubled."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=4)
    first_half = await stream.publish(generate(3000, seed=4))
    async with running(stream) as one:
        await stream.read(at_least=500)
        async with running(stream) as two:
            await until(lambda: two.get_sample_value("streamgauge_partitions_owned") == 2)
            second_half = await stream.publish(generate(3000, seed=5))
            outputs = await stream.outputs(at_least=6000)
            assert one.get_sample_value("streamgauge_partitions_owned") == 2
    assert judge(first_half | second_half, outputs).is_clean


async def test_records_that_vanished_are_counted_as_lost(kafka: Kafka) -> None:
    """Records deleted ahead of the group are counted and skipped; the rest is scored."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(100, seed=6))
    async with admin_client(stream.kafka) as admin:
        await admin.delete_records({TopicPartition(stream.topics.input, 0): RecordsToDelete(before_offset=40)})
    async with running(stream) as registry:
        outputs = await stream.outputs(at_least=60)
    assert judge({position: item for position, item in inputs.items() if position[1] >= 40}, outputs).is_clean
    assert registry.get_sample_value("streamgauge_records_lost_total", {"partition": "0"}) == 40


async def test_a_group_without_offsets_is_refused(kafka: Kafka) -> None:
    """Without committed offsets the worker refuses by name, unless told where to start."""
    stream = await Stream.create(kafka.bootstrap_servers, start_group=False)
    inputs = await stream.publish(generate(50, seed=7))
    with pytest.raises(ExceptionGroup) as caught:
        async with running(stream):
            await asyncio.Event().wait()
    assert caught.group_contains(ConfigurationError, match=r"no committed offset .*START_FROM=earliest or latest")
    async with running(stream, start_from="earliest"):
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean


async def test_missing_topics_are_refused(kafka: Kafka) -> None:
    """The worker names the missing topic and the command that makes it."""
    stream = Stream(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), TopicSettings(prefix="none"), "g", 1)
    with pytest.raises(ExceptionGroup) as caught:
        async with running(stream):
            await asyncio.Event().wait()
    assert caught.group_contains(
        ConfigurationError, match=r"none\.input does not exist\nrun: streamgauge topics create"
    )


async def test_an_unreachable_broker_is_named() -> None:
    """After the configured time the error names the address and the setting; a stop before that is heeded."""
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1", connect_timeout_s=0.5)
    with pytest.raises(StreamgaugeError, match=r"no Kafka broker answered at 127.0.0.1:1 within 0.5 s"):
        async with admin_client(nobody):
            raise AssertionError
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(Stopped):
        async with admin_client(nobody.model_copy(update={"connect_timeout_s": 3600}), stop):
            raise AssertionError


async def test_topics_are_as_the_guarantees_need_them(kafka: Kafka) -> None:
    """The broker itself refuses a record that unpacks to more than the limit, however small it was sent."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        compression_type="gzip",
        max_request_size=2**26,
        max_batch_size=2**26,
    ) as producer:
        with pytest.raises(Exception, match=r"MessageSizeTooLarge|RecordTooLarge|InvalidRecord"):
            await producer.send_and_wait(stream.topics.input, b"a" * 2**24)
        await producer.send_and_wait(stream.topics.input, b"fits")


async def test_other_settings_of_a_topic_survive(kafka: Kafka) -> None:
    """`topics create` repairs what it knows and leaves the rest of a topic's configuration alone."""
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    from streamgauge.provisioning import describe, make_right

    stream = await Stream.create(kafka.bootstrap_servers)
    async with admin_client(stream.kafka) as admin:
        assert isinstance(admin, AIOKafkaAdminClient)
        spoilt = {"compression.type": "producer", "segment.ms": "123456"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stream.topics.input, spoilt)])
        lines = [line async for line in make_right(stream.kafka, stream.topics, stream.group, 2, None, dry_run=False)]
        assert any("compression.type: producer -> uncompressed" in line for line in lines)
        config = (await describe(admin, [stream.topics.input]))[stream.topics.input].config
        assert (config["compression.type"], config["segment.ms"]) == ("uncompressed", "123456")


def test_the_oracle_finds_what_is_wrong() -> None:
    """The check itself can fail: what is missing counts as lost."""
    inputs = {(0, number): item for number, item in enumerate(generate(10, seed=8))}
    assert judge(inputs, []).lost == list(inputs)
    assert isinstance(inputs[0, 0], Input)
