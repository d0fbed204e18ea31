"""Which classes the latest results carry, asked of a real Kafka."""

import asyncio

from aiokafka import AIOKafkaProducer

from producer.latest import LAST_OFFSETS, LOOK_S, latest_classes
from streamgauge.events import encode
from tests.cluster import Kafka, Stream


def scored(*classes: str) -> bytes:
    return encode({"id": "a", "scores": dict.fromkeys(classes, 0.5)})


async def test_classes_of_the_latest_results(kafka: Kafka) -> None:
    """Those of all models in the last committed records of any partition, in the model's order; nothing older."""
    stream = await Stream.create(kafka.bootstrap_servers)
    topic = stream.topics.results
    servers = {"bootstrap_servers": kafka.bootstrap_servers}
    assert await latest_classes(stream.kafka, topic) == []

    async with AIOKafkaProducer(**servers) as producer:
        await producer.send_and_wait(topic, scored("long", "ago"), partition=0)
        for _number in range(LAST_OFFSETS):
            await producer.send_and_wait(topic, scored("pos", "neg"), partition=0)
        for foreign in (b"\xff", b'"\xff"', b"{}", b"null", encode({"scores": {}}), b'{"x":' + b"[" * 5000):
            await producer.send_and_wait(topic, foreign, partition=1)
        await producer.send_and_wait(topic, scored("0", "1", "2"), partition=1)
    async with AIOKafkaProducer(transactional_id=stream.group, **servers) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, scored("never", "committed"), partition=1)
        await producer.abort_transaction()

    assert set(await latest_classes(stream.kafka, topic)) == {("pos", "neg"), ("0", "1", "2")}


async def test_nobody_waits_for_what_cannot_be_read(kafka: Kafka) -> None:
    """Without a topic, and without a broker, nothing is known, and the command goes on."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with asyncio.timeout(2 * LOOK_S + 20):
        assert await latest_classes(stream.kafka, "no-such-topic") == []
        nowhere = stream.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
        assert await latest_classes(nowhere, stream.topics.results) == []
    assert "no-such-topic" not in await topics(stream)


async def topics(stream: Stream) -> set[str]:
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        return set((await producer.client.fetch_all_metadata()).topics())
