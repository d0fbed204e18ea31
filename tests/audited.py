"""Audited predictions for tests: texts in the input topic, and what a worker writes of them to the audit topic."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from streamgauge.events import Feedback, ModelRef, Position, Prediction, Timings, encode
from streamgauge.kafka import admin_client
from tests.cluster import Stream

MODEL = ModelRef(name="m", version="1", digest="sha256:0")
CLASSES = ("NEGATIVE", "POSITIVE")
TIMINGS = Timings(tokenize_s=0.0, queue_s=0.0, infer_s=0.0)


def event(message_id: str, source: Position, classes: Sequence[str] = CLASSES, model: ModelRef = MODEL) -> bytes:
    """A prediction of the last class."""
    return encode(
        Prediction(
            id=message_id,
            label=classes[-1],
            score=0.75,
            scores=dict.fromkeys(classes, 0.25) | {classes[-1]: 0.75},
            model=model,
            timings=TIMINGS,
            source=source,
            tokens=3,
            truncated=False,
            audit=0.01,
        )
    )


async def publish_audited(
    stream: Stream, inputs: Sequence[tuple[str, bytes]], classes: Sequence[str] = CLASSES
) -> list[Position]:
    """Ids and input records, spread over the partitions; each prediction is committed before the next is made."""
    servers = {"bootstrap_servers": stream.kafka.bootstrap_servers}
    sources = []
    async with (
        AIOKafkaProducer(**servers) as producer,
        AIOKafkaProducer(transactional_id=f"{stream.group}-audit", **servers) as worker,
    ):
        for number, (message_id, value) in enumerate(inputs):
            partition = number % stream.partitions
            at = await producer.send_and_wait(stream.topics.input, value, partition=partition)
            source = Position(topic=at.topic, partition=partition, offset=at.offset, timestamp_ms=at.timestamp)
            async with worker.transaction():
                await worker.send(stream.topics.audit, event(message_id, source, classes), partition=partition)
            sources.append(source)
    return sources


async def label(stream: Stream, *labels: tuple[str, str]) -> None:
    """Ids and classes, into the feedback topic."""
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        for message_id, name in labels:
            value = encode(Feedback(id=message_id, label=name, source="a test"))
            await producer.send_and_wait(stream.topics.feedback, value, key=message_id.encode())


async def delete_before(stream: Stream, source: Position) -> None:
    """Delete the input records of its partition that are older."""
    tp = TopicPartition(source.topic, source.partition)
    async with admin_client(stream.kafka) as admin:
        await admin.delete_records({tp: RecordsToDelete(before_offset=source.offset)})
