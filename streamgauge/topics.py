"""The topics as they must be: what to create, what to change, and what a worker checks before it starts.

Deciding (`plan`, `violations`) is pure; reading and applying are coroutines. Topics are never created by
anything but `streamgauge topics create`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ProducerFenced, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.kafka import admin_client, client_options, close_producer, committed_offset
from streamgauge.lifecycle import Deadline
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.stable_offset import stable_offset

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
OUTPUT_MARGIN_BYTES = 65_536
"""A dead letter is its input record and headers of ours: outputs take this much more than the input."""
MOVE_ATTEMPTS = 10
SETTLE_TIMEOUT_S = 30.0
SETTLE_POLL_S = 0.05
DYNAMIC_TOPIC_CONFIG = 1
"""The source code, in DescribeConfigs, of a value that was set on the topic itself."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its partitions and the configuration set on it (or, when described, in force)."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing `topics create` does: a new topic, more partitions, or other configuration."""

    topic: str
    what: str
    partitions: int | None = None
    config: Mapping[str, str] | None = None
    new: bool = False


def desired(settings: TopicSettings, partitions: int, replication_factor: int) -> list[Topic]:
    """Every topic as the guarantees need it."""
    output_bytes = str(settings.max_message_bytes + OUTPUT_MARGIN_BYTES)
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}
    # The broker's clock stamps what the join reads: one producer's wrong clock must not expire or revive anything.
    joined = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.bytes": "-1",
        "retention.ms": str(round((settings.join_window_days + 1) * DAY_MS)),
    }
    durable = {"min.insync.replicas": "2"} if replication_factor > 2 else {}
    wanted = {
        settings.results: joined | {"max.message.bytes": output_bytes},
        settings.metrics: week | {"max.message.bytes": output_bytes},
        settings.feedback: joined,
        # Dead letters keep the time of their record, whatever a producer's clock said.
        settings.dead_letter: week
        | {
            "max.message.bytes": output_bytes,
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
            "message.timestamp.before.max.ms": str(2**63 - 1),
        },
        # Last: a new partition of the input must find its partitions of the outputs.
        # Uncompressed: the broker unpacks a producer's batch and holds its records to max.message.bytes. Compressed,
        # a text 150 times that size would pass, and fill a worker's memory when it is unpacked there.
        settings.input: week
        | {"compression.type": "uncompressed", "max.message.bytes": str(settings.max_message_bytes)},
    }
    return [Topic(name, partitions, durable | config) for name, config in wanted.items()]


def plan(wanted: list[Topic], existing: Mapping[str, Topic]) -> list[Change]:
    """What must be done so that `existing` becomes `wanted`; never fewer partitions, never another topic's settings."""
    changes = []
    for topic in wanted:
        present = existing.get(topic.name)
        if present is None:
            changes.append(Change(topic.name, "create", topic.partitions, topic.config, new=True))
            continue
        if present.partitions < topic.partitions:
            what = f"partitions: {present.partitions} -> {topic.partitions}"
            changes.append(Change(topic.name, what, partitions=topic.partitions))
        other = {key: value for key, value in topic.config.items() if present.config.get(key) != value}
        if other:
            what = ", ".join(f"{key}: {present.config.get(key)} -> {value}" for key, value in other.items())
            changes.append(Change(topic.name, what, config=other))
    return changes


def violations(settings: TopicSettings, existing: Mapping[str, Topic]) -> Iterator[str]:
    """Why a worker must not start on these topics; nothing when all is well."""
    source = existing.get(settings.input)
    if source is None:
        yield f"topic {settings.input} does not exist"
        return
    if source.config["compression.type"] != "uncompressed":
        yield f"topic {settings.input}: compression.type must be uncompressed"
    at_least = int(source.config["max.message.bytes"]) + OUTPUT_MARGIN_BYTES
    for name in settings.outputs:
        topic = existing.get(name)
        if topic is None:
            yield f"topic {name} does not exist"
            continue
        if topic.partitions < source.partitions:
            yield f"topic {name}: {topic.partitions} partitions, but {settings.input} has {source.partitions}"
        if int(topic.config["max.message.bytes"]) < at_least:
            yield f"topic {name}: max.message.bytes must be at least {at_least}"
    results = existing.get(settings.results)
    if results and results.config["message.timestamp.type"] != "LogAppendTime":
        yield f"topic {settings.results}: message.timestamp.type must be LogAppendTime"


async def check(admin: AIOKafkaAdminClient, settings: TopicSettings) -> dict[str, Topic]:
    """Refuse to start on topics that would break a guarantee; returns the input and output topics."""
    existing = await describe(admin, [settings.input, *settings.outputs])
    problems = list(violations(settings, existing))
    if problems:
        raise ConfigurationError("; ".join(problems) + "\nrun: streamgauge topics create")
    return existing


async def describe(admin: AIOKafkaAdminClient, names: list[str], *, own_config_only: bool = False) -> dict[str, Topic]:
    """The named topics that exist, with their configuration (only what is set on the topic, if so asked)."""
    present = set(await admin.list_topics())
    names = [name for name in names if name in present]
    if not names:
        return {}
    partitions = {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics(names)
        if not topic["error_code"]
    }
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions])
    topics = {}
    for answer in answers:
        for error_code, message, _type, name, entries in answer.resources:
            if error_code == UnknownTopicOrPartitionError.errno:
                continue  # brokers learn of new and deleted topics one after another; this one knows it not
            if error_code:
                raise StreamgaugeError(
                    f"cannot read the configuration of topic {name}: {message or for_code(error_code)}"
                )
            config = {
                key: value
                for key, value, _read_only, source, *_ in entries
                if not own_config_only or source == DYNAMIC_TOPIC_CONFIG
            }
            topics[name] = Topic(name, partitions[name], config)
    return topics


async def brokers(admin: AIOKafkaAdminClient) -> int:
    """How many brokers the cluster has."""
    return len((await admin.describe_cluster())["brokers"])


async def apply(admin: AIOKafkaAdminClient, change: Change, replication_factor: int) -> None:
    """Carry out one change; creating what somebody else just created is fine."""
    if change.new:
        topic = NewTopic(change.topic, change.partitions, replication_factor, topic_configs=dict(change.config or {}))
        [(_name, code, *message)] = (await admin.create_topics([topic])).topic_errors
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise StreamgaugeError(
                f"cannot create topic {change.topic}: {(message or [''])[0] or for_code(code).__name__}"
            )
        return
    if change.partitions:
        await admin.create_partitions({change.topic: NewPartitions(change.partitions)})
    if change.config:
        # AlterConfigs replaces the whole set: what the topic's owner set besides must be sent along.
        kept = (await describe(admin, [change.topic], own_config_only=True))[change.topic].config
        resource = ConfigResource(ConfigResourceType.TOPIC, change.topic, {**kept, **change.config})
        for answer in await admin.alter_configs([resource]):
            for code, message, *_ in answer.resources:
                if code:
                    raise StreamgaugeError(f"cannot change topic {change.topic}: {message or for_code(code).__name__}")


def transactional_id(group: str, partition: TopicPartition) -> str:
    """The one id whose latest epoch may write partition's output; `/` is in no topic's name, so no two collide."""
    return f"{group}/{partition.topic}/{partition.partition}"


async def unstarted_partitions(
    admin: AIOKafkaAdminClient, group: str, topic: str, partitions: int
) -> list[TopicPartition]:
    """The partitions for which the group has no committed offset."""
    every = [TopicPartition(topic, number) for number in range(partitions)]
    return [tp for tp in every if await committed_offset(admin, group, tp) is None]


async def start_group(kafka: KafkaSettings, admin: AIOKafkaAdminClient, group: str, tp: TopicPartition) -> None:
    """Commit the first offset of a partition that has none."""
    async with AIOKafkaConsumer(**client_options(kafka)) as consumer:
        first = (await consumer.beginning_offsets([tp]))[tp]
    await move_group(kafka, admin, group, tp, lambda committed: None if committed else OffsetAndMetadata(first, ""))


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
                offset = decide(await stable_offset(admin, group, tp))
                if offset:
                    async with producer.transaction():
                        await producer.send_offsets_to_transaction({tp: offset}, group)
                return
        except ProducerFenced:
            if attempt == MOVE_ATTEMPTS - 1:
                raise


@asynccontextmanager
async def fenced_producer(kafka: KafkaSettings, group: str, tp: TopicPartition) -> AsyncIterator[AIOKafkaProducer]:
    """The one writer of `tp`'s progress in `group`, for as long as nobody else fences it."""
    producer = AIOKafkaProducer(transactional_id=transactional_id(group, tp), **client_options(kafka))
    try:
        await producer.start()
        yield producer
    finally:
        await close_producer(producer)


async def _settled(admin: AIOKafkaAdminClient, wanted: list[Topic]) -> dict[str, Topic]:
    """Wait until brokers tell of what has been done: they learn of it one after another."""
    deadline = Deadline(SETTLE_TIMEOUT_S)
    while True:
        existing = await describe(admin, [topic.name for topic in wanted])
        left = plan(wanted, existing)
        if not left:
            return existing
        if not deadline.left_s:
            raise StreamgaugeError(f"brokers still tell otherwise of topic {left[0].topic}: {left[0].what}")
        await asyncio.sleep(SETTLE_POLL_S)


async def make_right(
    kafka: KafkaSettings,
    settings: TopicSettings,
    group: str,
    partitions: int,
    replication_factor: int | None,
    *,
    dry_run: bool,
) -> AsyncIterator[str]:
    """Do all of `plan`, then give `group` its starting offsets; yields a line for each thing done (or to be done)."""
    verb = "would change" if dry_run else "changed"
    async with admin_client(kafka) as admin:
        replicas = replication_factor or min(3, await brokers(admin))
        wanted = desired(settings, partitions, replicas)
        changes = plan(wanted, await describe(admin, [topic.name for topic in wanted]))
        for change in changes:
            if not dry_run:
                await apply(admin, change, replicas)
            yield f"{verb} {change.topic}: {change.what}"
        if dry_run and any(change.new for change in changes):
            yield f"would start group {group} at the beginning"
            return
        existing = await _settled(admin, wanted) if not dry_run else await describe(admin, [settings.input])
        unstarted = await unstarted_partitions(admin, group, settings.input, existing[settings.input].partitions)
        for tp in unstarted:
            if not dry_run:
                await start_group(kafka, admin, group, tp)
            yield f"{verb} group {group}: starts {tp.topic}-{tp.partition} at its beginning"
    if not changes and not unstarted:
        yield "nothing to change"
