"""The topics of a cluster: read as they are, and made right by `streamgauge topics create`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streamgauge import rights
from streamgauge.coordination import check_coordination
from streamgauge.errors import StreamgaugeError, TopicsUnfit
from streamgauge.groups import start_group, unstarted_partitions
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import Deadline
from streamgauge.rights import Operation, Right, check_rights, denied, named_rights
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topics import Change, Topic, desired, listener_violations, other_replicas, plan, worker_violations

STARTS_AT_ONCE = 16
SETTLE_TIMEOUT_S = 30.0
SETTLE_POLL_S = 0.05
DYNAMIC_TOPIC_CONFIG = 1
"""The source code, in DescribeConfigs, of a value that was set on the topic itself."""


async def check_for_worker(admin: AIOKafkaAdminClient, settings: TopicSettings, group: str) -> dict[str, Topic]:
    """The input and output topics. Raises ConfigurationError when a guarantee would not hold, or a right is missing."""
    await check_coordination(admin)
    await check_rights(admin, rights.worker(settings, group))
    existing = await describe(admin, [settings.input, *settings.outputs])
    _refuse(found.text for found in worker_violations(settings, existing))
    return existing


async def check_for_listener(admin: AIOKafkaAdminClient, settings: TopicSettings) -> dict[str, Topic]:
    """The topics that it reads. Raises TopicsUnfit when the numbers could not be trusted on them."""
    await check_rights(admin, rights.listener(settings))
    existing = await describe(admin, settings.joined)
    _refuse(found.text for found in listener_violations(settings, existing))
    return existing


async def check_exist(admin: AIOKafkaAdminClient, names: Sequence[str], operation: Operation) -> dict[str, int]:
    """How many partitions the named topics have. Raises TopicsUnfit when one of them does not exist, AccessDenied when
    this user may not do that with it.
    """
    await check_rights(admin, [Right("topic", name, (operation,)) for name in names])
    existing = await _replicas(admin, names)
    _refuse(f"topic {name} does not exist" for name in names if name not in existing)
    return {name: len(partitions) for name, partitions in existing.items()}


async def _replicas(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, list[int]]:
    """How many each partition has, of the named topics that exist; being asked for, a topic might be created."""
    present = set(await admin.list_topics())
    names = [name for name in names if name in present]
    described = await admin.describe_topics(names) if names else []
    return {
        topic["topic"]: [len(partition["replicas"]) for partition in topic["partitions"]]
        for topic in described
        if not topic["error_code"]
    }


def _refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise TopicsUnfit(*found)


async def describe(
    admin: AIOKafkaAdminClient, names: Sequence[str], *, own_config_only: bool = False
) -> dict[str, Topic]:
    """The named topics that exist, with their configuration (only what is set on the topic, if so asked)."""
    replicas = await _replicas(admin, names)
    if not replicas:
        return {}
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in replicas])
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
            topics[name] = Topic(name, len(replicas[name]), config, min(replicas[name], default=None))
    return topics


async def brokers(admin: AIOKafkaAdminClient) -> int:
    """How many brokers the cluster has."""
    return len((await admin.describe_cluster())["brokers"])


async def apply(admin: AIOKafkaAdminClient, change: Change, replication_factor: int) -> None:
    """Carry out one change; creating what somebody else just created is fine."""
    if change.new:
        topic = NewTopic(change.topic, change.partitions, replication_factor, topic_configs=dict(change.config or {}))
        [(_name, code, *message)] = (await admin.create_topics([topic])).topic_errors
        _unless_denied(code, "Create", change.topic)
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise StreamgaugeError(
                f"cannot create topic {change.topic}: {(message or [''])[0] or for_code(code).__name__}"
            )
        return
    if change.partitions:
        try:
            await admin.create_partitions({change.topic: NewPartitions(change.partitions)})
        except TopicAuthorizationFailedError:
            raise denied([f"Alter on topic {change.topic}"]) from None
    if change.config:
        # AlterConfigs replaces the whole set: what the topic's owner set besides must be sent along.
        kept = (await describe(admin, [change.topic], own_config_only=True))[change.topic].config
        resource = ConfigResource(ConfigResourceType.TOPIC, change.topic, {**kept, **change.config})
        for answer in await admin.alter_configs([resource]):
            for code, message, *_ in answer.resources:
                _unless_denied(code, "AlterConfigs", change.topic)
                if code:
                    raise StreamgaugeError(f"cannot change topic {change.topic}: {message or for_code(code).__name__}")


def _unless_denied(error_code: int, operation: Operation, topic: str) -> None:
    if error_code in (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno):
        raise denied([f"{operation} on topic {topic}"])


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
    needed = rights.looking(settings, group)
    async with admin_client(kafka) as admin, named_rights(admin, needed):
        await check_coordination(admin)
        await check_rights(admin, needed)
        replicas = replication_factor or min(3, await brokers(admin))
        existing = await describe(admin, settings.every)
        if told := other_replicas(replication_factor, existing):
            yield told
        wanted = desired(settings, partitions, replicas, existing)
        changes = plan(wanted, existing)
        for change in changes:
            if not dry_run:
                await apply(admin, change, replicas)
            yield f"{verb} {change.topic}: {change.what}"
        if dry_run and any(change.new for change in changes):
            yield f"would start group {group} at the beginning"
            return
        existing = existing if dry_run else await _settled(admin, wanted)
        unstarted = await unstarted_partitions(admin, group, settings.input, existing[settings.input].partitions)
        for first in range(0, len(unstarted), STARTS_AT_ONCE):
            some = unstarted[first : first + STARTS_AT_ONCE]
            if not dry_run:
                await start_group(kafka, admin, group, some)
            for tp in some:
                yield f"{verb} group {group}: starts {tp.topic}-{tp.partition} at its beginning"
    if not changes and not unstarted:
        yield "nothing to change"
