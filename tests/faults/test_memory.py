"""What bounds a worker's memory and its membership: settings alone, whatever arrives and however long outputs stall."""

import asyncio
import re
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamgauge.events import decode_prediction, last_header
from streamgauge.kafka import admin_client
from streamgauge.settings import KafkaSettings
from tests.cluster import ROOT, Kafka, Stream, until, worker_refusal
from tests.contract.test_worker import running
from tests.echo import EchoModel
from tests.faults.conftest import FaultyKafka
from tests.faults.proxy import HOST
from tests.oracle import generate, judge
from worker.model.scorer import Probabilities, TokenIds
from worker.settings import WorkerSettings

pytestmark = pytest.mark.faults

MB = 2**20
PARTITIONS = 4
DEFAULTS = WorkerSettings(model_slots=2)
BASELINE_BYTES = 240 * MB
"""Python, ONNX Runtime and the default model, before the first record."""
WORKING_BYTES = (15 + 45 * DEFAULTS.model_slots) * MB
"""A chunk in the tokenizer, and a batch of 512 tokens in each model slot; the allocator keeps both."""
EPOCHS = 5
"""What is held, and what failed attempts held before: theirs lives until it is collected."""
PARSING = 35
"""Times the largest record, once: its headers may be empty, two bytes each, and are objects until they are counted."""
COPIES = 5
"""Of the largest record, a partition: a poll past the credit, aiokafka's prefetch, and a batch on its way out (3)."""


class ProduceStall:
    """A proxy in front of a broker that can hold back all Produce requests, and nothing else."""

    PRODUCE = 0

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.flowing = asyncio.Event()

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Forward one connection, request by request, until either side ends it."""
        broker, to_broker = await asyncio.open_connection(HOST, self._target_port)
        answers = asyncio.create_task(self._answer(broker, to_client))
        try:
            while True:
                size = await client.readexactly(4)
                request = await client.readexactly(*struct.unpack(">i", size))
                if struct.unpack_from(">h", request)[0] == self.PRODUCE:
                    await self.flowing.wait()
                to_broker.write(size + request)
                await to_broker.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            to_broker.close()
            to_client.close()

    async def _answer(self, broker: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await broker.read(65536):
            to_client.write(data)
            await to_client.drain()
        to_client.close()


def largest(stream: Stream) -> list[bytes]:
    """For one partition: texts that take the most tokens and just pass, among letters too large, text and JSON."""
    room = stream.topics.max_message_bytes - 200
    passes = b"!" * DEFAULTS.max_text_bytes
    too_large = [b"a " * (room // 2), b'{"text": "%s"}' % (b"b" * (room - 20))]
    return [*[passes] * 8, *too_large * 20]


BOMBS, BOMB_HEADERS = 40, 340_000
"""Records of 680 kB of empty headers, a partition."""


async def publish(stream: Stream, values: Sequence[bytes]) -> None:
    """The same values into every partition."""
    async with AIOKafkaProducer(
        bootstrap_servers=stream.kafka.bootstrap_servers, max_request_size=2 * stream.topics.max_message_bytes
    ) as producer:
        for value in values:
            for partition in range(stream.partitions):
                await producer.send_and_wait(stream.topics.input, value, partition=partition)
        for _ in range(BOMBS):
            for partition in range(stream.partitions):
                headers = [("", None)] * BOMB_HEADERS
                await producer.send_and_wait(stream.topics.input, b"", partition=partition, headers=headers)


def memory_bytes(pid: int, what: str) -> int:
    """`VmRSS`, what a process holds now, or `VmHWM`, the most that it ever held."""
    [kilobytes] = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


def source(record: Any) -> tuple[int, int]:
    """Partition and offset of the input record that a result or a dead letter stands for."""
    offset = last_header(record.headers, "__connect.errors.offset")
    return record.partition, int(offset) if offset else decode_prediction(record.value).source.offset


@asynccontextmanager
async def worker_process(stream: Stream, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real worker with the default model, killed after the block if it still runs. Its log has all lines."""
    settings = {"STREAMGAUGE_WORKER_MODEL_SLOTS": str(DEFAULTS.model_slots), "STREAMGAUGE_LOG_LEVEL": "debug"}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker",
            cwd=ROOT,
            env=stream.worker_environment | settings,
            stderr=errors,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of processes from /proc")
@pytest.mark.timeout(300)
async def test_memory_is_bounded_while_outputs_stall(faulty_kafka: FaultyKafka, tmp_path: Path) -> None:
    """With the largest records there are and outputs that hang, a worker's memory stays below the sum of settings."""
    stream = await Stream.create(faulty_kafka.bootstrap_servers, PARTITIONS)
    values = largest(stream)
    await publish(stream, values)
    lane, log = faulty_kafka.lanes[0], tmp_path / "worker.log"
    behind = replace(stream, kafka=KafkaSettings(bootstrap_servers=lane.bootstrap_servers))
    stall = ProduceStall(lane.broker_port)
    async with await asyncio.start_server(stall.serve, HOST, lane.port), worker_process(behind, log) as worker:
        await until(lambda: log.read_text().count("transaction.failed") >= 2 * PARTITIONS)
        stall.flowing.set()
        await stream.all_committed(len(values) + BOMBS)
        peak = memory_bytes(worker.pid, "VmHWM")
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
    outputs = await stream.read()
    assert sorted(map(source, outputs)) == [
        (p, offset) for p in range(PARTITIONS) for offset in range(len(values) + BOMBS)
    ]
    assert {len(record.value) for record in outputs if record.topic == stream.topics.dead_letter} == {0} | {
        len(value) for value in values if len(value) > DEFAULTS.max_text_bytes
    }
    bound = (
        BASELINE_BYTES
        + EPOCHS * DEFAULTS.max_bytes
        + (PARTITIONS * COPIES + PARSING) * stream.topics.max_message_bytes
        + WORKING_BYTES
    )
    print(f"peak {peak / MB:.0f} MB, bound {bound / MB:.0f} MB")
    assert peak < bound


async def test_a_topic_that_takes_compressed_bombs_is_refused(kafka: Kafka) -> None:
    """Where the broker keeps a producer's compression a small record may unpack to anything: code 2, by name."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    spoilt = {"compression.type": "producer", "max.message.bytes": str(64 * MB)}
    async with admin_client(stream.kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stream.topics.input, spoilt)])
    code, errors = await worker_refusal(stream)
    assert code == 2
    assert f"topic {stream.topics.input}: compression.type is producer, but must be uncompressed" in errors
    too_small = f"topic {stream.topics.dead_letter}: max.message.bytes is 1114124, but must be at least 67174400"
    assert too_small in errors
    assert "run: streamgauge topics create" in errors


async def test_inference_longer_than_the_session_keeps_the_group(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes twice the session timeout causes no rebalance, and its results come."""
    blocks_s, score = [2 * 6.0], EchoModel.score

    def slow_once(model: EchoModel, batch: Sequence[TokenIds]) -> Probabilities:
        if blocks_s:
            time.sleep(blocks_s.pop())
        return score(model, batch)

    monkeypatch.setattr(EchoModel, "score", slow_once)
    stream = await Stream.create(kafka.bootstrap_servers)
    inputs = await stream.publish(generate(500, seed=31))
    async with running(stream, model_slots=1) as registry:
        outputs = await stream.outputs(at_least=len(inputs))
        assert registry.get_sample_value("streamgauge_rebalances_total") == 1
    assert judge(inputs, outputs).is_clean
    assert registry.get_sample_value("streamgauge_transactions_total", {"outcome": "aborted"}) == 0
