"""A group's progress: who owns a partition, how far it is, and the one writer that may move it.

Whoever moves a committed offset fences the partition first, then reads the offset: only so is it the last one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import CoordinatorLoadInProgressError, GroupAuthorizationFailedError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.kafka import answered, client_options, close_producer, persistently
from streamgauge.settings import KafkaSettings
from streamgauge.stable_offset import COORDINATOR_TIMEOUT_S, stable_offset
from streamgauge.topic_reading import topic_reader

MOVE_ATTEMPTS = 10


def transactional_id(group: str, partition: TopicPartition) -> str:
    """The one id whose latest epoch may write partition's output; `/` is in no topic's name, so no two collide."""
    return f"{group}/{partition.topic}/{partition.partition}"


@asynccontextmanager
async def fenced_producer(
    kafka: KafkaSettings, group: str, tp: TopicPartition, max_batch_bytes: int = 16_384
) -> AsyncIterator[AIOKafkaProducer]:
    """The one writer of `tp`'s progress in `group`, for as long as nobody else fences it.

    Raises StreamgaugeError when no coordinator answers within `connect_timeout_s`.
    """
    producer = AIOKafkaProducer(
        transactional_id=transactional_id(group, tp), max_batch_size=max_batch_bytes, **client_options(kafka)
    )
    try:
        await answered(kafka, producer.start(), f"earlier writers of {tp.topic}-{tp.partition} were fenced")
        yield producer
    finally:
        await close_producer(producer)


class Member(NamedTuple):
    """Of a group: a worker's client id is its name."""

    client_id: str
    partitions: frozenset[TopicPartition] | None
    """What is assigned to it; None while the group rebalances."""


async def group_members(admin: AIOKafkaAdminClient, group: str) -> list[Member]:
    """As the group's coordinator tells, asked now; none of a group that it does not know. Raises KafkaError."""
    [response] = await admin.describe_consumer_groups([group])
    [(error_code, _group, state, _type, _protocol, members, *_)] = response.groups
    if error_code == GroupAuthorizationFailedError.errno:
        raise GroupAuthorizationFailedError(group)
    if error_code:
        return []

    def partitions(assignment: bytes) -> frozenset[TopicPartition]:
        return frozenset(ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions() if assignment else ())

    return [
        Member(client_id, partitions(assignment) if state == "Stable" else None)
        for _member_id, client_id, _host, _metadata, assignment in members
    ]


async def owned_partitions(admin: AIOKafkaAdminClient, group: str, client_id: str) -> set[TopicPartition]:
    """What the group's coordinator, asked now, says is assigned to the member `client_id`; none while it rebalances.
    Raises KafkaError.
    """
    members = await group_members(admin, group)
    return {tp for member in members if member.client_id == client_id for tp in member.partitions or ()}


async def committed_offset(admin: AIOKafkaAdminClient, group: str, tp: TopicPartition) -> OffsetAndMetadata | None:
    """The group's committed offset as its coordinator tells it now, None when there is none. Raises KafkaError."""

    async def ask() -> OffsetAndMetadata:
        answer: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
            group, partitions=[tp]
        )
        if tp not in answer:
            # What a coordinator answers that is still loading; it does not mean that there is no offset.
            raise CoordinatorLoadInProgressError(f"no offset told for {tp.topic}-{tp.partition}")
        return answer[tp]

    committed = await persistently(ask, COORDINATOR_TIMEOUT_S)
    return committed if committed.offset >= 0 else None


async def unstarted_partitions(
    admin: AIOKafkaAdminClient, group: str, topic: str, partitions: int
) -> list[TopicPartition]:
    """The partitions for which the group has no committed offset."""
    every = [TopicPartition(topic, number) for number in range(partitions)]
    return [tp for tp in every if await committed_offset(admin, group, tp) is None]


async def start_group(
    kafka: KafkaSettings, admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TopicPartition]
) -> None:
    """Commit the first offset of each of these partitions that has none."""
    async with topic_reader(kafka) as consumer:
        firsts = await consumer.beginning_offsets(partitions)

    async def start(tp: TopicPartition) -> None:
        first = OffsetAndMetadata(firsts[tp], "")
        await move_group(kafka, admin, group, tp, lambda committed: None if committed else first)

    async with asyncio.TaskGroup() as tasks:
        for tp in partitions:
            tasks.create_task(start(tp))


async def move_group(
    kafka: KafkaSettings,
    admin: AIOKafkaAdminClient,
    group: str,
    tp: TopicPartition,
    decide: Callable[[OffsetAndMetadata | None], OffsetAndMetadata | None],
) -> None:
    """Commit what `decide` makes of the committed offset (None: leave it), as whoever owns the partition would.

    Fenced first, so that a worker which is at work loses nothing and takes its partition back. Should it do so
    before we have committed, it is our turn again.
    """
    for attempt in range(MOVE_ATTEMPTS):
        try:
            async with fenced_producer(kafka, group, tp) as producer:
                if offset := decide(await stable_offset(admin, group, tp)):
                    await answered(kafka, _commit(producer, group, tp, offset), f"{tp.topic}-{tp.partition} was moved")
                return
        except ProducerFenced:
            if attempt == MOVE_ATTEMPTS - 1:
                raise


async def _commit(producer: AIOKafkaProducer, group: str, tp: TopicPartition, offset: OffsetAndMetadata) -> None:
    async with producer.transaction():
        await producer.send_offsets_to_transaction({tp: offset}, group)
