"""Getting a group past a record that kills the process: its offset is written into the group's committed offset.

The metadata of a committed offset travels with it, atomically and for that partition alone, so whoever owns the
partition next knows which records not to score. They become dead letters, and the order of the others holds.
"""

import re

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.coordination import check_coordination
from streamgauge.errors import ConfigurationError
from streamgauge.groups import move_group
from streamgauge.kafka import admin_client
from streamgauge.settings import KafkaSettings, TopicSettings
from worker.progress import skips_of, with_skips

MAX_SKIPS = 100
"""A broker takes 4,096 bytes of metadata."""


def parse_position(text: str, topic: str) -> tuple[TopicPartition, int]:
    """`TOPIC:PARTITION:OFFSET`, of the input topic."""
    name, partition, offset = [*text.rsplit(":", 2), "", ""][:3]
    if name == topic and re.fullmatch(r"\d{1,9}", partition) and re.fullmatch(r"\d{1,18}", offset):
        return TopicPartition(name, int(partition)), int(offset)
    raise ConfigurationError(f"{text}: a position is written {topic}:PARTITION:OFFSET")


async def skip(kafka: KafkaSettings, topics: TopicSettings, group: str, position: str) -> None:
    """Have the record at `position` become a dead letter unscored. Raises ConfigurationError if that is too late."""
    tp, offset = parse_position(position, topics.input)

    def add(committed: OffsetAndMetadata | None) -> OffsetAndMetadata:
        if committed is None:
            raise ConfigurationError(f"group {group} has no committed offset for {tp.topic}-{tp.partition}")
        if offset < committed.offset:
            raise ConfigurationError(f"group {group} is past {position} already: it is at {committed.offset}")
        skips = skips_of(committed) | {offset}
        if len(skips) > MAX_SKIPS:
            raise ConfigurationError(f"{MAX_SKIPS} records of {tp.topic}-{tp.partition} are to be skipped already")
        return with_skips(committed, skips)

    async with admin_client(kafka) as admin:
        await check_coordination(admin)
        await move_group(kafka, admin, group, tp, add)
