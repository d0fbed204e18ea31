"""What others send packed, broken or full of lies: each record has one outcome, and nobody's memory has no bound.

The topics are as ours must be when a service starts, and are changed then: the broker keeps batches as they came.
"""

from pathlib import Path
from typing import Any

import cramjam
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import Reason, decode_prediction, last_header
from streamgauge.topic_reading import polls_up_to, topic_reader
from streamgauge.unpacking import MAX_UNPACKED_BYTES
from tests.cluster import Kafka, Stream, until
from tests.contract.test_listener import label, listening, predict, result
from tests.contract.test_worker import running
from tests.echo import echo_probability
from tests.oracle import Input, generate, judge
from tests.raw_batches import CODECS, HEADER_BYTES, bomb, let_in, lz4_frame, packed_batch, plain_batch, send_batch

GOOD = Input(b"good", echo_probability("good"))


def source(letter: Any) -> tuple[int, int]:
    """Partition and offset of the record that this result or dead letter is of."""
    if letter.topic.endswith("results"):
        where = decode_prediction(letter.value).source
        return where.partition, where.offset
    partition, offset = (last_header(letter.headers, f"__connect.errors.{part}") for part in ("partition", "offset"))
    return int(partition or b""), int(offset or b"")


def find(folder: Path, pattern: str, content: bytes) -> tuple[Path, int]:
    """The one file of this pattern, and the last place in it where this stands."""
    [file] = folder.rglob(pattern)
    return file, file.read_bytes().rindex(content)


def overwrite(file: Path, at: int, new: bytes) -> None:
    """Change these bytes of a file that is in use."""
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(new)


async def read_to_the_end(stream: Stream, tp: TopicPartition) -> None:
    """As commands read."""
    async with topic_reader(stream.kafka) as reader:
        reader.assign([tp])
        reader.seek(tp, 0)
        async for _polled in polls_up_to(reader, await reader.end_offsets([tp]), stream.kafka):
            pass


def records_of(*values: bytes) -> bytes:
    """As they stand in a batch."""
    return plain_batch(values)[HEADER_BYTES:]


async def test_each_packed_record_has_one_outcome(kafka: Kafka) -> None:
    """Whatever its batch is packed with. What cannot be unpacked, or not within the bound, is refused, and named."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    good, unread = records_of(b"good", b"good"), Input(b"", Reason.UNREADABLE)
    large = records_of(b"x" * MAX_UNPACKED_BYTES)
    cases = [
        (packed_batch(CODECS["gzip"], bytes(cramjam.gzip.compress(good)), 2), [GOOD, GOOD]),
        (packed_batch(CODECS["snappy"], bytes(cramjam.snappy.compress_raw(good)), 2), [GOOD, GOOD]),
        (packed_batch(CODECS["lz4"], lz4_frame(good), 2), [GOOD, GOOD]),
        (packed_batch(CODECS["zstd"], bytes(cramjam.zstd.compress(good)), 2), [GOOD, GOOD]),
        (packed_batch(CODECS["zstd"], bomb(600 * 2**20), 1), [unread]),
        (packed_batch(CODECS["lz4"], lz4_frame(large), 1), [unread]),
        (packed_batch(CODECS["lz4"], lz4_frame(good) + b"more", 2), [unread, unread]),
        (packed_batch(CODECS["gzip"], bytes(cramjam.gzip.compress(good)) + b"more", 2), [unread, unread]),
        (packed_batch(CODECS["zstd"], bytes(cramjam.zstd.compress(records_of(b"x" * 3 * 2**20))), 1), [unread]),
        (plain_batch([b"good"]), [GOOD]),
    ]
    inputs: dict[tuple[int, int], Input] = {}
    async with running(stream) as registry:
        await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == 1)
        await let_in(kafka.bootstrap_servers, stream.topics.input)
        for batch, expected in cases:
            first = await send_batch(kafka.bootstrap_servers, stream.topics.input, batch)
            inputs |= {(0, first + number): item for number, item in enumerate(expected)}
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean
    assert {record.value for record in outputs if record.topic == stream.topics.dead_letter} == {b""}


async def test_a_large_dead_letter_can_be_read_again(kafka: Kafka) -> None:
    """Our own writer compresses, but nothing that readers would refuse to unpack."""
    value = b"x" * (MAX_UNPACKED_BYTES + 2**20)
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1, max_message_bytes=2 * MAX_UNPACKED_BYTES)
    first = await send_batch(kafka.bootstrap_servers, stream.topics.input, plain_batch([value]))
    async with running(stream):
        outputs = await stream.outputs(at_least=1)
    assert judge({(0, first): Input(value, Reason.TEXT_TOO_LARGE)}, outputs).is_clean
    assert outputs[0].value == value


async def test_a_record_is_where_the_broker_put_it(kafka: Kafka) -> None:
    """The broker compares nothing of what an unpacked batch's records say of their own offsets."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs: dict[tuple[int, int], Input] = {}
    async with running(stream):
        for said in ([1000, 5], [0, 0, 0], [-3, 1], [1, 0]):
            texts = [Input(b"%d at %d" % (number, place), 0) for number, place in enumerate(said)]
            first = await send_batch(
                kafka.bootstrap_servers, stream.topics.input, plain_batch([text.value for text in texts], said)
            )
            for number, text in enumerate(texts):
                inputs[0, first + number] = Input(text.value, echo_probability(text.value.decode()))
        inputs |= await stream.publish(generate(300, seed=41))
        outputs = await stream.outputs(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean


async def test_a_listener_counts_what_cannot_be_unpacked(kafka: Kafka) -> None:
    """As refused, at its partition, and goes on."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    await predict(stream, [result("a")])
    async with listening(stream) as (listener, registry):
        await let_in(kafka.bootstrap_servers, stream.topics.feedback)
        for batch in (
            packed_batch(CODECS["zstd"], bomb(600 * 2**20), 1),
            packed_batch(CODECS["lz4"], lz4_frame(records_of(b"x", b"y")) + b"more", 2),
            plain_batch([label("a", "POSITIVE")]),
        ):
            await send_batch(kafka.bootstrap_servers, stream.topics.feedback, batch)
        await listener.applied()
        refused = {"partition": "0", "reason": "unreadable"}
        assert registry.get_sample_value("streamgauge_feedback_refused", refused) == 3
        assert registry.get_sample_value("streamgauge_labels", {"age": "recent"}) == 1


async def test_a_corrupt_batch_holds_up_its_partition_alone(tmp_path: Path) -> None:
    """It is named and asked for again, for as long as it takes; then everything has its one outcome."""
    with EmbeddedKafka(data_dir=tmp_path) as own:
        stream = await Stream.create(own.bootstrap_servers)
        inputs = await stream.publish(generate(100, seed=43))
        log, at = find(tmp_path, f"{stream.topics.input}-0/*.log", b"text 43-")
        overwrite(log, at, b"TEXT")
        async with running(stream) as registry:
            reopens = "streamgauge_partition_reopens_total"
            await until(lambda: (registry.get_sample_value(reopens) or 0) >= 2)
            inputs |= await stream.publish(generate(100, seed=44))
            with pytest.raises(CorruptRecordException, match=stream.topics.input):
                await read_to_the_end(stream, TopicPartition(stream.topics.input, 0))
            healthy = {position for position in inputs if position[0] == 1}
            outputs = await stream.read(at_least=len(healthy))
            assert {source(record) for record in outputs} >= healthy
            overwrite(log, at, b"text")
            outputs = await stream.outputs(at_least=len(inputs))
        assert judge(inputs, outputs).is_clean
