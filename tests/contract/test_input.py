"""What becomes of the input under a group: made anew, emptied by retention; and what counts as lost then."""

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamgauge.groups import move_group
from streamgauge.kafka import admin_client, client_options
from streamgauge.stable_offset import stable_offset
from tests.cluster import Kafka, Stream, until
from tests.contract.test_worker import running
from tests.oracle import generate, judge
from worker.progress import progress_of


async def delete_before(stream: Stream, topic: str, offset: int) -> None:
    """As retention does, in partition 0."""
    async with admin_client(stream.kafka) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})


def lost(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("streamgauge_records_lost_total", {"partition": "0"})


async def opened(registry: CollectorRegistry) -> None:
    """Wait until the worker has opened the partition."""
    await until(lambda: registry.get_sample_value("streamgauge_partitions_owned") == 1)


async def work_once(stream: Stream) -> None:
    """Let a worker open the partition, so that its committed offset tells what ours tells."""
    async with running(stream) as registry:
        await opened(registry)


async def test_a_loss_is_counted_once(kafka: Kafka) -> None:
    """Offsets deleted before they were read are counted at the next start, and not again at the one after it."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(50, seed=61))
    await delete_before(stream, stream.topics.input, 20)
    counts = []
    for _ in range(2):
        async with running(stream) as registry:
            await opened(registry)
            await stream.all_committed(50)
        counts.append(lost(registry))
        await delete_before(stream, stream.topics.input, 50)
    assert counts == [20, 0]
    await stream.publish(generate(30, seed=62))
    await delete_before(stream, stream.topics.input, 80)
    counts.clear()
    for _ in range(2):
        async with running(stream) as registry:
            await opened(registry)
            await stream.all_committed(80)
        counts.append(lost(registry))
    assert counts == [30, 0], "an idle partition's loss was counted at each start"
    kept = {position: item for position, item in inputs.items() if position[1] >= 20}
    assert judge(kept, await stream.outputs()).is_clean


async def test_a_transactions_marker_is_no_record(kafka: Kafka) -> None:
    """Retention that removes the marker behind the last record of a transaction has removed no record."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    options = client_options(stream.kafka)
    async with (
        AIOKafkaProducer(transactional_id=f"{stream.group}-producer", **options) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(stream.topics.input, b"a fine film", partition=0)
    async with running(stream) as registry:
        await opened(registry)
        await stream.all_committed(1)
    await delete_before(stream, stream.topics.input, 2)
    with capture_logs() as logs:
        async with running(stream) as registry:
            await opened(registry)
            await stream.all_committed(2)
    assert lost(registry) == 0
    assert "records.lost" not in {entry["event"] for entry in logs}


async def test_an_offset_of_another_topic_means_nothing(kafka: Kafka) -> None:
    """An input that was made anew, and filled past where the old one was read to, is read from its beginning."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    await work_once(stream)
    inputs = await stream.publish(generate(100, seed=63))
    async with admin_client(stream.kafka) as admin:
        source = TopicPartition(stream.topics.input, 0)
        committed = await stable_offset(admin, stream.group, source)
        progress = progress_of(committed) if committed else None
        assert progress
        old = msgspec.structs.replace(progress, first=60, next=60, input_id="deleted").committed()
        await move_group(stream.kafka, admin, stream.group, source, lambda _committed: old)
    with capture_logs() as logs:
        async with running(stream) as registry:
            await opened(registry)
            await stream.all_committed(100)
    assert "input.made_anew" in {entry["event"] for entry in logs}
    assert judge(inputs, await stream.outputs()).is_clean
