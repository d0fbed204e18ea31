"""Getting a group past a record that kills the process: its offset is written into the group's committed offset.

The metadata of a committed offset travels with it, atomically and for that partition alone, so whoever owns the
partition next knows which records not to score. They become dead letters, and the order of the others holds.
"""

import re

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.coordination import check_coordination
from streamgauge.errors import ConfigurationError
from streamgauge.groups import move_group
from streamgauge.kafka import admin_client, answered
from streamgauge.provisioning import check_exist
from streamgauge.rights import check_rights, moving, named_rights
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import topic_reader
from worker.progress import skips_of, with_skips

MAX_SKIPS = 100
"""A broker takes 4,096 bytes of metadata."""


def parse_position(text: str, topic: str) -> tuple[TopicPartition, int]:
    """`TOPIC:PARTITION:OFFSET`, of the input topic."""
    name, partition, offset = [*text.rsplit(":", 2), "", ""][:3]
    if name == topic and re.fullmatch(r"\d{1,9}", partition) and re.fullmatch(r"\d{1,18}", offset):
        return TopicPartition(name, int(partition)), int(offset)
    raise ConfigurationError(f"{text}: a position is written {topic}:PARTITION:OFFSET")


async def skip(kafka: KafkaSettings, topics: TopicSettings, group: str, position: str) -> int:
    """Have the record at `position` become a dead letter unscored; returns how many are to be scored before it.

    Raises ConfigurationError if that is too late, or if there is no such record yet: it would be lost when it comes.
    """
    tp, offset = parse_position(position, topics.input)

    before = 0

    def add(committed: OffsetAndMetadata | None) -> OffsetAndMetadata:
        nonlocal before
        if committed is None:
            raise ConfigurationError(f"group {group} has no committed offset for {tp.topic}-{tp.partition}")
        if offset < committed.offset:
            raise ConfigurationError(f"group {group} is past {position} already: it is at {committed.offset}")
        before = offset - committed.offset
        skips = skips_of(committed) | {offset}
        if len(skips) > MAX_SKIPS:
            raise ConfigurationError(f"{MAX_SKIPS} records of {tp.topic}-{tp.partition} are to be skipped already")
        return with_skips(committed, skips)

    needed = moving(topics, group)
    async with admin_client(kafka) as admin, named_rights(admin, needed):
        await check_coordination(admin)
        await check_rights(admin, needed)
        await _check_is_there(kafka, admin, tp, offset)
        await move_group(kafka, admin, group, tp, add)
    return before


async def _check_is_there(kafka: KafkaSettings, admin: AIOKafkaAdminClient, tp: TopicPartition, offset: int) -> None:
    partitions = (await check_exist(admin, [tp.topic], "Read"))[tp.topic]
    if tp.partition >= partitions:
        raise ConfigurationError(f"{tp.topic} has no partition {tp.partition}: its last one is {partitions - 1}")
    async with topic_reader(kafka) as consumer:
        end = (await answered(kafka, consumer.end_offsets([tp]), "the end was asked for"))[tp]
    if offset >= end:
        raise ConfigurationError(
            f"{tp.topic}:{tp.partition}:{offset} is not there yet: {tp.topic}-{tp.partition} ends before {end}, and "
            f"{offset - end} records would have to come first"
        )
