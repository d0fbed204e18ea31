"""What is collected from a real Kafka: set-ups that are sound, and sound ones that are broken for real."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.commands.doctor.collect import Addresses, take
from streamgauge.commands.doctor.picture import seen
from streamgauge.kafka import admin_client
from streamgauge.settings import DAY_MS, KafkaSettings
from streamgauge.topics import desired
from tests.cluster import Kafka, Stream
from tests.contract.test_worker import working
from tests.doctor.real import configure, found_of, report_of, setup_of
from tests.oracle import generate
from tests.stack.running import free_port
from worker.settings import WorkerSettings, allowed_cores

Break = Callable[[Stream], Awaitable[None]]
MODEL = WorkerSettings(model_slots=1).model_dir


@pytest.fixture
async def stream(kafka: Kafka) -> Stream:
    """Topics of a test's own, made right; the group has been started."""
    return await Stream.create(kafka.bootstrap_servers)


def set_on(topic: str, **config: str) -> Break:
    """`topic`: which one, by the name of the setting."""
    return lambda stream: configure(stream, getattr(stream.topics, topic), **config)


async def drop(stream: Stream, topic: str) -> None:
    async with admin_client(stream.kafka) as admin:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def grow_the_input(stream: Stream) -> None:
    """The group is started there too; the outputs are forgotten."""
    await stream.grow(stream.partitions + 1, stream.topics.input)
    await commit(stream.kafka, stream.group, stream.topics.input, stream.partitions, 0)


async def commit(kafka: KafkaSettings, group: str, topic: str, partition: int, offset: int) -> None:
    """As a group without members."""
    servers, tp = kafka.bootstrap_servers, TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: offset})


async def publish(stream: Stream) -> None:
    await stream.publish(generate(20, seed=1))


async def delete_unread(stream: Stream) -> None:
    """Others come after them, and somebody is in the group: nothing else is wrong."""
    await publish(stream)
    async with admin_client(stream.kafka) as admin:
        await admin.delete_records({TopicPartition(stream.topics.input, 0): RecordsToDelete(before_offset=-1)})
        await admin.delete_records({TopicPartition(stream.topics.input, 1): RecordsToDelete(before_offset=-1)})


async def move_beyond(stream: Stream) -> None:
    await commit(stream.kafka, stream.group, stream.topics.input, 0, 7)


async def stamp_tomorrow(stream: Stream) -> None:
    """By a producer's clock, which the topic then did not allow any more."""
    await configure(stream, stream.topics.feedback, message_timestamp_type="CreateTime")
    tomorrow_ms = round(time.time() * 1000) + 3_000_000
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(stream.topics.feedback, b"{}", partition=0, timestamp_ms=tomorrow_ms)
    await configure(stream, stream.topics.feedback, message_timestamp_type="LogAppendTime")


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("topic-missing", lambda stream: drop(stream, stream.topics.audit)),
        ("output-partitions", grow_the_input),
        ("topic-timestamps", set_on("results", message_timestamp_type="CreateTime")),
        ("topic-cleanup", set_on("metrics", cleanup_policy="compact")),
        ("topic-compression", set_on("input", compression_type="gzip")),
        ("output-size", set_on("dead_letter", max_message_bytes="1048588")),
        ("label-retention", set_on("results", retention_ms=str(2 * DAY_MS))),
        ("label-retention", set_on("feedback", retention_bytes="1000000")),
        ("in-sync", set_on("input", min_insync_replicas="2")),
        ("group-start", move_beyond),
        ("group-empty", publish),
        ("records-deleted", delete_unread),
        ("clock-skew", stamp_tomorrow),
    ],
)
async def test_a_breakage_in_kafka_is_found_alone(stream: Stream, tmp_path: Path, name: str, break_it: Break) -> None:
    """After it, and not before."""
    assert await found_of(stream, tmp_path) == []
    await break_it(stream)
    assert await found_of(stream, tmp_path) == [name]


async def test_a_group_that_was_never_started_is_found(kafka: Kafka, tmp_path: Path) -> None:
    """`topics create` starts it; `start_from` says what to do without."""
    stream = await Stream.create(kafka.bootstrap_servers, start_group=False)
    assert await found_of(stream, tmp_path) == ["group-start"]
    assert await found_of(stream, tmp_path, start_from="earliest") == []


@asynccontextmanager
async def member(stream: Stream, client_id: str, *topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    """One of the workers' group, which has been given its partitions."""
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=stream.kafka.bootstrap_servers,
        group_id=stream.group,
        client_id=client_id,
        enable_auto_commit=False,
    )
    async with consumer:
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=50)
        yield consumer


@pytest.mark.parametrize(("client_id", "topic"), [("aiokafka-0.14.0", "input"), ("billing", "feedback")])
async def test_strangers_in_the_group_are_found(stream: Stream, tmp_path: Path, client_id: str, topic: str) -> None:
    """By what they read, or by the name that a library gives them."""
    async with member(stream, client_id, getattr(stream.topics, topic)):
        assert await found_of(stream, tmp_path) == ["group-foreign"]
    assert await found_of(stream, tmp_path) == []


async def first_found(stream: Stream, folder: Path) -> list[str]:
    """As soon as anything is; a member may join later than we ask."""
    while not (found := await found_of(stream, folder)):
        pass
    return found


async def test_workers_are_no_strangers_and_too_many_are_found(stream: Stream, tmp_path: Path) -> None:
    """Two workers share two partitions; a third has none; two of one name are found."""
    async with AsyncExitStack() as running:
        for instance in ("a", "b"):
            await running.enter_async_context(working(stream, instance=instance))
        await publish(stream)
        await stream.all_committed(10)
        assert await found_of(stream, tmp_path) == []
        async with working(stream, instance="c"):
            assert await first_found(stream, tmp_path) == ["workers-idle"]
    async with working(stream, instance="a"), working(stream, instance="a"):
        assert await first_found(stream, tmp_path) == ["instance-twice"]


async def test_two_groups_on_the_same_topics_are_found(stream: Stream, tmp_path: Path) -> None:
    """While both work; a group that another name has taken over is none."""
    blue = Stream(stream.kafka, stream.topics, f"{stream.group}-blue", stream.partitions)
    async with working(stream), working(blue, start_from="earliest"):
        await publish(stream)
        await stream.all_committed(10)
        await blue.all_committed(10)
        assert await found_of(stream, tmp_path) == ["two-groups"]
    assert await found_of(stream, tmp_path) == []


async def test_a_reader_of_what_is_not_committed_is_found(stream: Stream, tmp_path: Path) -> None:
    """It has committed what a transaction has not; once that has ended, nobody can tell any more."""
    servers, results = stream.kafka.bootstrap_servers, stream.topics.results
    writer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=f"{stream.group}-open")
    async with writer, writer.transaction():
        await writer.send_and_wait(results, b"{}", partition=0)
        await commit(stream.kafka, f"{stream.group}-careful", results, 0, 0)
        assert await found_of(stream, tmp_path) == []
        await commit(stream.kafka, f"{stream.group}-hasty", results, 0, 1)
        assert await found_of(stream, tmp_path) == ["read-uncommitted"]
    assert await found_of(stream, tmp_path) == []


async def test_settings_and_machine_are_looked_at(stream: Stream, tmp_path: Path) -> None:
    """A session that brokers do not allow, a model without a tokenizer, a folder that is no folder to write in."""
    assert await found_of(stream, tmp_path, session_timeout_s=0.5) == ["session-timeout"]
    assert await found_of(stream, tmp_path, stall_timeout_s=5) == ["timeouts"]
    cores = allowed_cores()
    assert "model-slots" in await found_of(stream, tmp_path, model_slots=min(64, int(cores) + 1)) or cores >= 64
    shutil.copytree(MODEL, tmp_path / "model")
    assert await found_of(stream, tmp_path, model_dir=tmp_path / "model") == []
    (tmp_path / "model" / "tokenizer.json").unlink()
    assert await found_of(stream, tmp_path, model_dir=tmp_path / "model") == ["model-directory"]


async def test_nobody_is_behind_the_address(tmp_path: Path, stream: Stream) -> None:
    """What needs Kafka is not made; the rest is."""
    deaf = Stream(KafkaSettings(bootstrap_servers="127.0.0.1:1"), stream.topics, stream.group, stream.partitions)
    began_s = time.monotonic()
    assert await found_of(deaf, tmp_path) == ["kafka-unreachable"]
    assert time.monotonic() - began_s < 30


class Narrow(NamedTuple):
    """A broker that is set as none should be; its other port tells an address that leads nowhere."""

    kafka: KafkaSettings
    astray: KafkaSettings


@pytest.fixture(scope="module")
def narrow(kafka_version: str) -> Iterator[Narrow]:
    """One for this file."""
    port = free_port()
    settings = {
        "transaction.state.log.replication.factor": "3",
        "transaction.max.timeout.ms": "20000",
        "listeners": f"ASTRAY://127.0.0.1:{port}",
        "advertised.listeners": "ASTRAY://127.0.0.1:1",
        "listener.security.protocol.map": "ASTRAY:PLAINTEXT",
    }
    with EmbeddedKafka(version=kafka_version, settings=settings) as embedded:
        yield Narrow(
            KafkaSettings(bootstrap_servers=embedded.bootstrap_servers),
            KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}"),
        )


async def test_what_the_brokers_are_set_to_is_found(narrow: Narrow, stream: Stream, tmp_path: Path) -> None:
    """Nothing was made there yet: not even the topics, and asking makes none."""
    for timeout_s, more in ((10.0, []), (16.0, ["transaction-timeout"])):
        setup = setup_of(narrow.kafka, stream.topics, stream.group, tmp_path, transaction_timeout_s=timeout_s)
        report = await report_of(setup)
        assert [finding.check for finding in report.findings] == ["coordinator-log", *more, "topic-missing"]
    async with admin_client(narrow.kafka) as admin:
        assert await admin.list_topics() == []


async def test_an_address_that_leads_nowhere_is_found(narrow: Narrow, stream: Stream, tmp_path: Path) -> None:
    """The broker answers at first, and then sends its clients elsewhere."""
    report = await report_of(setup_of(narrow.astray, stream.topics, stream.group, tmp_path))
    [finding] = report.findings
    assert (finding.check, "127.0.0.1:1," in finding.what) == ("kafka-address", True)


async def test_three_brokers_are_well_until_a_topic_is_on_one(kafka_version: str, tmp_path: Path) -> None:
    """Made by `topics create`, it has three copies; made by itself, one."""
    with EmbeddedKafka(version=kafka_version, nodes=3) as embedded:
        stream = await Stream.create(embedded.bootstrap_servers)
        assert await found_of(stream, tmp_path) == []
        picture = await take(setup_of(stream.kafka, stream.topics, stream.group, tmp_path), Addresses())
        assert set(seen(picture.cluster.replicas).values()) == {3}
        assert seen(picture.cluster.brokers) == 3
        await drop(stream, stream.topics.metrics)
        made = seen(picture.cluster.topics)[stream.topics.metrics]
        config = {**desired(stream.topics, 1, 1, {})[2].config, "min.insync.replicas": "1"}
        async with admin_client(stream.kafka) as admin:
            await admin.create_topics([NewTopic(made.name, made.partitions, 1, topic_configs=config)])
        while "topic-missing" in (found := await found_of(stream, tmp_path)):
            pass  # brokers learn of it one after another
        assert found == ["topic-replicas"]
