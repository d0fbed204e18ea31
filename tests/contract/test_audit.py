"""What is to be labelled, and its texts, on a real Kafka: committed records only, as long as texts are retained."""

from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from streamgauge.commands.audit_queue import Audited, read_unlabelled
from streamgauge.commands.audit_texts import text_reader
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import clock_ms
from tests.audited import delete_before, event, label, publish_audited
from tests.cluster import Kafka, Stream

DAY_MS = 86_400_000


async def unlabelled(stream: Stream, now_ms: int | None = None) -> list[Audited]:
    """Asked for now, or at another moment."""
    partitions = {stream.topics.audit: stream.partitions, stream.topics.feedback: stream.partitions}
    return await read_unlabelled(stream.kafka, stream.topics, partitions, now_ms or clock_ms())


async def test_what_is_to_be_labelled(kafka: Kafka) -> None:
    """What has no label of its classes, the oldest first, over partitions; a label may come first; no aborted one."""
    stream = await Stream.create(kafka.bootstrap_servers)
    assert await unlabelled(stream) == []
    await label(stream, ("c", "POSITIVE"))
    sources = await publish_audited(stream, [(name, b"a text") for name in "abcdef"])
    await label(stream, ("b", "NEGATIVE"), ("d", "odd"), ("e", "odd"), ("e", "POSITIVE"), ("unknown", "POSITIVE"))
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{stream.group}-x"
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(stream.topics.audit, event("never", sources[0]), partition=1)
        await producer.abort_transaction()

    found = await unlabelled(stream)
    assert [(one.id, one.source) for one in found] == [("a", sources[0]), ("d", sources[3]), ("f", sources[5])]
    assert await unlabelled(stream, clock_ms() + round(7.1 * DAY_MS)) == []  # they have left the window


async def test_texts_as_long_as_they_are_retained(kafka: Kafka) -> None:
    """Plain or JSON, one by one in any order; none of what is deleted, before or after the reader was opened."""
    stream = await Stream.create(kafka.bootstrap_servers)
    texts = [(f"text {number}", f"text {number}".encode()) for number in range(10)]
    texts[3] = ("of JSON", b'{"id": "3", "text": "of JSON"}')
    texts[8] = ("x" * 500_000, b"x" * 500_000)
    sources = await publish_audited(stream, texts)
    await delete_before(stream, sources[2])
    async with text_reader(stream.kafka, stream.topics.input, stream.partitions) as reader:
        for number in (9, 3, 4, 1, 8, 2, 3):
            assert await reader.at(sources[number]) == texts[number][0]
        assert not reader.has(sources[0])
        await delete_before(stream, sources[5])
        await delete_before(stream, sources[6])
        assert [await reader.at(sources[number]) for number in (0, 2, 3, 4, 5)] == [None, None, None, None, "text 5"]
        [last] = sources[-1:]
        elsewhere = (
            replace(last, topic="elsewhere"),
            replace(last, partition=stream.partitions),
            replace(last, offset=last.offset + 1),
            replace(last, offset=2**70),
            replace(last, timestamp_ms=last.timestamp_ms - 1),  # the topic was made again, and has another text there
        )
        assert [await reader.at(position) for position in elsewhere] == [None] * len(elsewhere)
    async with admin_client(stream.kafka) as admin:
        assert "elsewhere" not in await admin.list_topics()
