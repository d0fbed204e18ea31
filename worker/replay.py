"""Publishes dead letters back to where they came from, with their ids, once each.

How far the dead letters of one reason have been replayed is a consumer group's committed offset, moved in the same
transaction that publishes them; so doing it twice, or being killed in the middle, publishes none twice.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.coordination import check_coordination
from streamgauge.events import CONNECT_ERRORS, Reason, last_header
from streamgauge.groups import committed_offset, fenced_producer
from streamgauge.kafka import admin_client, answered
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import polls_up_to, topic_reader
from streamgauge.topics import Topic
from worker.output import OutputRecord
from worker.transaction import send_in_order

MAX_RECORDS = 500


def replay_group(group: str, reason: Reason) -> str:
    """The group whose offsets say how far dead letters of this reason have been replayed."""
    return f"{group}.replay.{reason.value}"


async def replay(
    kafka: KafkaSettings, topics: TopicSettings, group: str, reasons: Sequence[Reason], *, dry_run: bool
) -> AsyncIterator[tuple[Reason, int]]:
    """Replay what has not been replayed yet; yields how many records each reason had."""
    async with admin_client(kafka) as admin:
        await check_coordination(admin)
        existing = await check_exist(admin, [topics.dead_letter, topics.input])
        async with topic_reader(kafka) as consumer:
            for reason in reasons:
                replayer = _Replayer(kafka, admin, consumer, replay_group(group, reason), existing[topics.input])
                partitions = range(existing[topics.dead_letter].partitions)
                counts = [
                    await replayer.partition(TopicPartition(topics.dead_letter, number), reason, dry_run=dry_run)
                    for number in partitions
                ]
                yield reason, sum(counts)


class _Replayer:
    """One reason's dead letters on their way back to `target`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
        group: str,
        target: Topic,
    ) -> None:
        self._kafka, self._admin, self._consumer, self._group, self._target = kafka, admin, consumer, group, target

    async def partition(self, tp: TopicPartition, reason: Reason, *, dry_run: bool) -> int:
        """Replay one partition of the dead letters; the fence comes first, so that two replays do not both publish."""
        if dry_run:
            return await self._replay(tp, reason, None)
        async with fenced_producer(self._kafka, self._group, tp) as producer:
            return await self._replay(tp, reason, producer)

    async def _replay(self, tp: TopicPartition, reason: Reason, producer: AIOKafkaProducer | None) -> int:
        committed = await committed_offset(self._admin, self._group, tp)
        self._consumer.assign([tp])
        self._consumer.seek(tp, committed.offset if committed else 0)
        end = (await self._consumer.end_offsets([tp]))[tp]
        count = 0
        async for polled in polls_up_to(self._consumer, {tp: end}, self._kafka):
            chosen = [record for record in polled.get(tp, []) if self._is_ours(record, reason)]
            count += len(chosen)
            if producer:
                publishing = self._publish(producer, tp, chosen, await self._consumer.position(tp))
                await answered(self._kafka, publishing, "dead letters were published")
        return count

    def _is_ours(self, record: Any, reason: Reason) -> bool:
        """Of the reason, and from the topic that is replayed to: a record tells its last failure last."""
        failed_for = last_header(record.headers, CONNECT_ERRORS + "exception.class.name")
        came_from = last_header(record.headers, CONNECT_ERRORS + "topic")
        return failed_for == reason.value.encode() and came_from == self._target.name.encode()

    async def _publish(
        self, producer: AIOKafkaProducer, tp: TopicPartition, records: Sequence[Any], next_offset: int
    ) -> None:
        by_partition: dict[int, list[OutputRecord]] = {}
        for record in records:
            partition = int(last_header(record.headers, CONNECT_ERRORS + "partition") or b"0")
            back = OutputRecord(self._target.name, record.key, record.value, list(record.headers))
            by_partition.setdefault(partition, []).append(back)
        async with producer.transaction():
            for partition, own in by_partition.items():
                await send_in_order(producer, self._target.name, partition, own)
            await producer.send_offsets_to_transaction({tp: OffsetAndMetadata(next_offset, "")}, self._group)
