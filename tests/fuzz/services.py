"""Worker, listener and the services' port under hostile input, on a real Kafka. Nothing is lost, nothing stops."""

import asyncio
import io
import logging
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from prometheus_client import CollectorRegistry

from streamgauge.http import serve_http
from tests.cluster import Stream, until
from tests.contract.test_listener import listening
from tests.contract.test_worker import working
from tests.fuzz.making import FEEDBACK, RESULT, TEXT, Dice, headers, mutated, record_value, some_bytes
from tests.fuzz.targets import NAMES, VALUES, dice_of, outcome_of, packed_as
from tests.oracle import Input, judge
from tests.raw_batches import CODECS, HEADER_BYTES, RawBatch, let_in, packed_batch, with_checksum
from worker.outcomes import Refused
from worker.settings import WorkerSettings

REQUEST_S = 0.5


def batch(dice: Dice, fields: dict[str, bytes], count: int, *, is_packed: bool) -> bytes:
    """So many records with anything in them; sometimes their bytes, or what they are packed in, are spoilt."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 2**31 - 1)
    for place in range(count):
        value, its_headers = record_value(dice, fields), headers(dice, NAMES, VALUES)
        offset = place if dice.random() < 0.98 else dice.randrange(-5, 2**31 - 1)
        timestamp_ms = dice.choice([-1, 0, 1_700_000_000_000, 2**62])
        builder.append(offset, timestamp_ms, dice.choice([None, some_bytes(dice)]), value, its_headers)
    made = bytearray(builder.build())
    struct.pack_into(">i", made, HEADER_BYTES - 38, count - 1)
    made = bytearray(with_checksum(made))
    if dice.random() < 0.05:
        made[HEADER_BYTES:] = mutated(dice, bytes(made[HEADER_BYTES:]))
    if not is_packed:
        return with_checksum(made)
    codec = dice.choice([*CODECS.values()])
    packed = packed_as(dice, codec, bytes(made[HEADER_BYTES:]))
    return packed_batch(codec, mutated(dice, packed) if dice.random() < 0.2 else packed, count)


async def send(stream: Stream, topic: str, fields: dict[str, bytes], dice: Dice, records: int) -> None:
    """So many records or a few more, in batches, half of them compressed; what the broker refuses does not count."""
    await let_in(stream.kafka.bootstrap_servers, topic)
    left = records
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers, request_timeout_ms=5000) as producer:
        while left > 0:
            count = dice.choice([1, 1, 10, 100])
            is_packed = dice.random() < 0.5
            made = RawBatch(await asyncio.to_thread(batch, dice, fields, count, is_packed=is_packed))
            made.close()
            with suppress(KafkaError):
                await (await producer.send_batch(made, topic, partition=dice.randrange(stream.partitions)))
                left -= count


def expected(record: Any) -> Input:
    """What must become of a record, as the pure core says."""
    outcome = outcome_of(record, WorkerSettings().max_text_bytes)
    return Input(record.value or b"", outcome.reason if isinstance(outcome, Refused) else outcome.probabilities[1])


async def through_worker(bootstrap_servers: str, seed: int, records: int) -> int:
    """Each record of the input ends as exactly one result or dead letter; returns how many there were."""
    stream = await Stream.create(bootstrap_servers)
    async with working(stream) as registry:
        # It has looked at the topics, which change now.
        await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == stream.partitions)
        await send(stream, stream.topics.input, TEXT, dice_of(seed, "worker", 0), records)
        sent = await stream.read([stream.topics.input])
        outputs = await stream.outputs(at_least=len(sent))
    inputs = {(record.partition, record.offset): expected(record) for record in sent}
    for partition in range(stream.partitions):
        offsets = [record.offset for record in sent if record.partition == partition]
        assert offsets == [*range(len(offsets))], "an offset without its record"
    verdict = judge(inputs, outputs)
    assert verdict.is_clean, verdict
    return len(inputs)


async def through_listener(bootstrap_servers: str, seed: int, records: int) -> int:
    """Each label is counted, as a label or as refused, whatever stands in the results; returns how many there were."""
    stream = await Stream.create(bootstrap_servers)
    dice = dice_of(seed, "listener", 0)
    async with listening(stream) as (listener, registry):
        await listener.applied()  # it has looked at the topics, which change now
        await send(stream, stream.topics.results, RESULT, dice, records // 2)
        await send(stream, stream.topics.feedback, FEEDBACK, dice, records // 2)
        await listener.applied()
        sent = Counter(record.topic for record in await stream.read([stream.topics.results, stream.topics.feedback]))
        counted = Counter[str]()
        for metric in registry.collect():
            counted[metric.name] = int(sum(sample.value for sample in metric.samples))
    labels = counted["streamgauge_labels"] + counted["streamgauge_feedback_refused"]
    assert labels == sent[stream.topics.feedback], f"{labels} labels counted of {sent[stream.topics.feedback]}"
    return sent.total()


REQUESTS = [
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /readyz HTTP/1.0\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /metrics?name[]=up&name[]=%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
]


def request(dice: Dice) -> bytes:
    """Some that are well-formed, spoilt, cut off, one after the other, or no HTTP at all."""
    whole = b"".join(dice.choices(REQUESTS, k=dice.choice([1, 1, 3])))
    if dice.random() < 0.1:
        return some_bytes(dice)
    if dice.random() < 0.1:
        return whole.replace(b"Host: x", b"Host: " + b"x" * 20_000)
    spoilt = mutated(dice, whole) if dice.random() < 0.7 else whole
    return spoilt[: dice.randrange(len(spoilt) + 1)] if dice.random() < 0.3 else spoilt


async def at_the_port(seed: int, requests: int) -> int:
    """Whatever is asked, nothing is logged as an error, and `/livez` answers; returns how many requests there were."""
    registry = CollectorRegistry()
    with logged() as log:
        async with serve_http("127.0.0.1", 0, registry, live=lambda: None, ready=lambda: "not yet") as port:
            for case in range(0, requests, 50):
                asked = (request(dice_of(seed, "port", number)) for number in range(case, case + 50))
                await asyncio.gather(*(_ask(port, one) for one in asked))
            async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}/livez") as answer:
                alive = answer.status, await answer.text()
    assert alive == (200, "ok"), alive
    assert "Traceback" not in log.getvalue(), log.getvalue()[:6000]
    return requests


async def _ask(port: int, asked: bytes) -> None:
    """Ask, and read what is answered until the service closes the connection or has no more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError, TimeoutError):
        writer.write(asked)
        if len(asked) % 2:
            writer.write_eof()
        async with asyncio.timeout(REQUEST_S):
            while await reader.read(2**16):
                pass
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What libraries log of a service, from warnings up."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)
