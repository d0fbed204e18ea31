"""Which result a label judges, asked of a real Kafka."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from producer import effect
from producer.effect import LOOK_S, Found, result_of
from streamgauge.events import encode
from tests.cluster import Kafka, Stream
from tests.unit.test_effect import RESULT


async def test_the_last_result_of_an_id(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far back it stands, in any partition; foreign records and aborted ones are passed."""
    monkeypatch.setattr(effect, "FIRST_OFFSETS", 2)
    stream = await Stream.create(kafka.bootstrap_servers)
    topic, servers = stream.topics.results, {"bootstrap_servers": kafka.bootstrap_servers}
    assert await result_of(stream.kafka, stream.topics, "a") == Found(None, 0, is_all=True)

    async with AIOKafkaProducer(**servers) as producer:
        for score in (0.6, 0.7):
            await producer.send_and_wait(topic, encode(replace(RESULT, score=score)), key=b"a", partition=1)
        for number in range(30):
            other = encode(replace(RESULT, id=f"other-{number}"))
            await producer.send_and_wait(topic, other, key=b"other", partition=number % 2)
        await producer.send_and_wait(topic, b"{", key=b"a", partition=0)
    async with AIOKafkaProducer(transactional_id=stream.group, **servers) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, encode(RESULT), key=b"a", partition=1)
        await producer.abort_transaction()

    found = await result_of(stream.kafka, stream.topics, "a")
    assert found
    assert found.result == replace(RESULT, score=0.7)
    assert await result_of(stream.kafka, stream.topics, "nobody") == Found(None, 0, is_all=True)


async def test_what_cannot_be_read_is_not_told(kafka: Kafka) -> None:
    """Without a topic, and without a broker, the command goes on."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with asyncio.timeout(2 * LOOK_S + 20):
        elsewhere = stream.topics.model_copy(update={"prefix": "no-such"})
        assert await result_of(stream.kafka, elsewhere, "a") is None
        nowhere = stream.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
        assert await result_of(nowhere, stream.topics, "a") is None
