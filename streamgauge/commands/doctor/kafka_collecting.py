"""What the brokers tell. Only questions are asked that change nothing, each bounded by CALL_S."""

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.structs import TopicPartition

from streamgauge.aiokafka_private import Address, advertised_addresses, broker_addresses, send
from streamgauge.commands.doctor.collecting import CALL_S, part
from streamgauge.commands.doctor.picture import Cluster, Door, Group, Member, NotSeen, Setup, Span, Unseen
from streamgauge.coordination import LOGS, broker_config
from streamgauge.errors import AccessDenied, StreamgaugeError
from streamgauge.kafka import admin_client, client_options
from streamgauge.lifecycle import clock_ms
from streamgauge.provisioning import describe
from streamgauge.settings import KafkaSettings
from streamgauge.topic_ids import allowed_operations, topic_ids
from streamgauge.topic_reading import topic_reader
from streamgauge.topics import Topic

GROUPS_LOG = "__consumer_offsets"
CLOCK_MARGIN_MS = 1000
"""A record that is younger may have come while we were asking."""


class Topics(NamedTuple):
    """Ours and the brokers' own, and the copies of each."""

    found: dict[str, Topic]
    replicas: dict[str, int]


async def look_at_kafka(setup: Setup) -> tuple[Door, Cluster]:
    """Knock, and ask whoever opens."""
    patience_s = min(CALL_S, setup.kafka.connect_timeout_s)
    kafka = setup.kafka.model_copy(update={"connect_timeout_s": patience_s})
    try:
        async with admin_client(kafka, request_timeout_s=CALL_S) as admin:
            deaf = await _deaf(broker_addresses(admin))
            return Door(deaf=deaf), await _cluster(setup._replace(kafka=kafka), admin)
    except AccessDenied as refusal:
        return Door(refusal=str(refusal)), Cluster.unseen("the brokers do not let us in")
    except StreamgaugeError as silence:
        deaf = await _deaf(await advertised_addresses(client_options(kafka), CALL_S))
        if deaf:
            return Door(deaf=deaf), Cluster.unseen("nobody answers at the addresses that brokers name")
        return Door(silence=str(silence)), Cluster.unseen("no broker answers")


async def _deaf(addresses: Iterable[Address]) -> tuple[str, ...]:
    """Those of the addresses at which nobody takes a connection."""

    async def answers(address: Address) -> bool:
        try:
            async with asyncio.timeout(CALL_S):
                _reader, writer = await asyncio.open_connection(*address)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    every = sorted(set(addresses))
    heard = await asyncio.gather(*map(answers, every))
    return tuple(f"{host}:{port}" for (host, port), heard_it in zip(every, heard, strict=True) if not heard_it)


async def _cluster(setup: Setup, admin: AIOKafkaAdminClient) -> Cluster:
    nodes = await part(_nodes(admin), "the brokers")
    if isinstance(nodes, Unseen):
        return Cluster.unseen(nodes.because)
    topics, groups, versions, config, input_id = await asyncio.gather(
        part(_topics(admin, setup.topics.every), "the topics"),
        part(_groups(admin, nodes, setup.worker.group), "the groups"),
        part(_versions(admin, nodes), "the brokers' versions"),
        part(_config(admin, nodes[0]), "the brokers' settings"),
        part(_input_id(admin, setup.topics.input), "the input's id"),
    )
    found = topics if isinstance(topics, Unseen) else topics.found
    # After the groups: what a group had committed then, was in the topics then.
    reading = await part(_spans(setup.kafka, _partitions(found, setup.topics.every)), "the ends of the topics")
    return Cluster(
        brokers=len(nodes),
        versions=versions,
        config=config,
        topics=found,
        replicas=topics if isinstance(topics, Unseen) else topics.replicas,
        input_id=input_id,
        groups=groups,
        spans=reading if isinstance(reading, Unseen) else reading[0],
        ahead_ms=reading if isinstance(reading, Unseen) else reading[1],
    )


async def _nodes(admin: AIOKafkaAdminClient) -> list[int]:
    return [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]


async def _versions(admin: AIOKafkaAdminClient, nodes: Sequence[int]) -> dict[int, int]:
    """The highest version of each request that every broker knows."""
    answers = [await send(admin, ApiVersionRequest(), node) for node in nodes]
    highest = [{key: most for key, _least, most in answer.api_versions} for answer in answers]
    return {key: min(of[key] for of in highest) for key in highest[0] if all(key in of for of in highest)}


async def _config(admin: AIOKafkaAdminClient, node: int) -> dict[str, str]:
    config = await broker_config(admin, node)
    if not config:
        raise NotSeen("this user may not read the brokers' settings")
    return config


async def _input_id(admin: AIOKafkaAdminClient, name: str) -> str:
    return (await topic_ids(admin, [name]))[name]


async def _topics(admin: AIOKafkaAdminClient, ours: Sequence[str]) -> Topics:
    """Of the brokers' own topics no more is known than this user may see."""
    allowed = await allowed_operations(admin, [*ours, *LOGS])
    if hidden := [name for name in ours if name in allowed and allowed[name] is None]:
        raise NotSeen(f"this user may not see topic {hidden[0]}")
    found = await describe(admin, [name for name in ours if name in allowed])
    for log in LOGS.keys() & allowed.keys():
        try:
            found |= await describe(admin, [log])
        except StreamgaugeError:
            found[log] = Topic(log, 0, {})
    described = await admin.describe_topics([name for name in found if allowed[name] is not None]) if found else []
    replicas = {
        topic["topic"]: min(len(partition["replicas"]) for partition in topic["partitions"])
        for topic in described
        if topic["partitions"]
    }
    return Topics(found, replicas)


async def _groups(admin: AIOKafkaAdminClient, nodes: Sequence[int], own: str) -> dict[str, Group]:
    """All groups that this user may see; the workers' must be among them, if there is one."""
    if GROUPS_LOG not in await allowed_operations(admin, [GROUPS_LOG]):
        return {}  # nobody has committed anything yet; being asked, a broker would make the topic
    found: dict[str, Group] = {}
    for node in nodes:
        for name, kind in await admin.list_consumer_groups([node]):
            if kind not in ("consumer", ""):
                continue
            # One by one: of an answer about several, aiokafka 0.14 cannot read the second.
            [answer] = await admin.describe_consumer_groups([name], node)
            [(error_code, _name, state, _kind, _protocol, members, *_)] = answer.groups
            if not error_code:
                offsets = await admin.list_consumer_group_offsets(name, node)
                found[name] = Group(state, tuple(_member(*each) for each in members), offsets)
    if own not in found:
        [answer] = await admin.describe_consumer_groups([own])
        if answer.groups[0][0] == GroupAuthorizationFailedError.errno:
            raise NotSeen(f"this user may not see group {own}")
    return found


def _member(_id: str, client_id: str, _host: str, metadata: bytes, *_more: object) -> Member:
    """Anybody may write anything as metadata; what is none of a consumer subscribes to nothing that we know."""
    try:
        subscribed = ConsumerProtocol.METADATA.decode(metadata).subscription if metadata else None
    except (ValueError, struct.error):
        subscribed = []
    return Member(client_id, None if subscribed is None else frozenset(subscribed))


def _partitions(topics: dict[str, Topic] | Unseen, ours: Sequence[str]) -> list[TopicPartition]:
    """Those of our topics that exist."""
    if isinstance(topics, Unseen):
        return []
    return [
        TopicPartition(name, number) for name in ours if name in topics for number in range(topics[name].partitions)
    ]


async def _spans(kafka: KafkaSettings, partitions: list[TopicPartition]) -> tuple[dict[TopicPartition, Span], int]:
    """What is retained and committed; and how many ms ahead of our clock a record is."""
    if not partitions:
        raise NotSeen("none of the topics is seen")
    async with topic_reader(kafka) as consumer:
        firsts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        now_ms = clock_ms()
        later = await consumer.offsets_for_times(dict.fromkeys(partitions, now_ms + CLOCK_MARGIN_MS))
    ahead_ms = max((found.timestamp - now_ms for found in later.values() if found), default=0)
    return {tp: Span(firsts[tp], ends[tp]) for tp in partitions}, ahead_ms
