"""A worker that lacks a right ends, and its error names the right: when it starts, and when the right is taken away."""

import asyncio
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from feedback_listener import service
from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.errors import AccessDenied
from streamgauge.settings import KafkaSettings
from tests.cluster import Stream, until
from tests.echo import EchoModel
from tests.oracle import generate
from worker.service import Worker
from worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(300)

ENDS_WITHIN_S = 30.0
"""Far less than what the watchdog takes."""
USER = "a-worker"


class Broker(NamedTuple):
    """A Kafka that asks who one is. `admin` may do everything, as the nameless user of the plain listener."""

    kafka: KafkaSettings
    login: KafkaSettings
    admin: AdminClient


@pytest.fixture(scope="module")
def broker(kafka_version: str) -> Iterator[Broker]:
    """One for all tests of this file: each has topics, a group and rights of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "listeners": f"LOGIN://{address}",
        "advertised.listeners": f"LOGIN://{address}",
        "listener.security.protocol.map": "LOGIN:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="a secret";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with EmbeddedKafka(version=kafka_version, settings=settings) as embedded:
        login = KafkaSettings(
            bootstrap_servers=address,
            security_protocol="SASL_PLAINTEXT",
            username=USER,
            password=SecretStr("a secret"),
        )
        plain = KafkaSettings(bootstrap_servers=embedded.bootstrap_servers)
        yield Broker(plain, login, AdminClient({"bootstrap.servers": plain.bootstrap_servers}))


class Right(NamedTuple):
    """An operation on a resource; `{}` in the resource's name is the stream's."""

    kind: ResourceType
    resource: str
    operation: AclOperation


RIGHTS = [
    *(
        Right(ResourceType.TOPIC, f"{{}}.{topic}", operation)
        for topic in ("input", "results", "audit", "dead-letter", "metrics")
        for operation in (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
        if (topic, operation) != ("input", AclOperation.WRITE)
    ),
    Right(ResourceType.GROUP, "{}", AclOperation.READ),
    Right(ResourceType.GROUP, "{}", AclOperation.DESCRIBE),
    Right(ResourceType.TRANSACTIONAL_ID, "{}/{}.input/0", AclOperation.WRITE),
    Right(ResourceType.TRANSACTIONAL_ID, "{}/{}.input/0", AclOperation.DESCRIBE),
]
UNSEEN = [right for right in RIGHTS if right.operation is AclOperation.DESCRIBE]
WHILE_RUNNING = [right for right in RIGHTS if right.operation is AclOperation.WRITE]
WHILE_RUNNING += [
    right for right in RIGHTS if right.operation is AclOperation.READ and right.resource in ("{}.input", "{}")
]


def named(right: Right) -> str:
    return f"{right.operation.name}-{right.kind.name}-{right.resource.rpartition('.')[2]}"


class Scene:
    """A stream whose worker has every right, and a worker on it that knows its login only."""

    def __init__(self, broker: Broker, stream: Stream) -> None:
        self.broker, self.stream = broker, stream
        settings = WorkerSettings(group=stream.group, session_timeout_s=6, audit_share=1)
        self.worker = Worker(broker.login, stream.topics, settings, CollectorRegistry(), EchoModel())

    @classmethod
    async def create(cls, broker: Broker, rights: Sequence[Right] = RIGHTS) -> "Scene":
        scene = cls(broker, await Stream.create(broker.kafka.bootstrap_servers, partitions=1))
        created = broker.admin.create_acls([scene._binding(right) for right in rights])
        for one in created.values():
            await asyncio.to_thread(one.result)
        await scene.stream.publish(generate(60, seed=1))
        return scene

    def resource(self, right: Right) -> str:
        return right.resource.replace("{}", self.stream.topics.prefix)

    def _binding(self, right: Right, permission: AclPermissionType = AclPermissionType.ALLOW) -> AclBinding:
        return AclBinding(
            right.kind,
            self.resource(right),
            ResourcePatternType.LITERAL,
            f"User:{USER}",
            "*",
            right.operation,
            permission,
        )

    async def take_away(self, right: Right) -> None:
        """DESCRIBE is implied by others, so it is denied by a rule."""
        if right.operation is AclOperation.DESCRIBE:
            created = self.broker.admin.create_acls([self._binding(right, AclPermissionType.DENY)])
            for denied in created.values():
                await asyncio.to_thread(denied.result)
            return
        granted = self._binding(right)
        [removed] = self.broker.admin.delete_acls(
            [
                AclBindingFilter(
                    granted.restype,
                    granted.name,
                    granted.resource_pattern_type,
                    granted.principal,
                    granted.host,
                    granted.operation,
                    granted.permission_type,
                )
            ]
        ).values()
        assert len(await asyncio.to_thread(removed.result)) == 1

    async def error_that_ends_the_worker(self) -> BaseException:
        """Publish good and bad texts, which a worker without the right cannot score."""
        await self.stream.publish(generate(200, seed=2))
        with pytest.raises((AccessDenied, ExceptionGroup)) as raised:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await self.worker.run(asyncio.Event())
        ended: BaseException = raised.value
        return ended


def told(error: BaseException) -> str:
    """By the one denial among the errors that a group holds."""
    if isinstance(error, BaseExceptionGroup):
        [text] = {told(each) for each in error.exceptions} - {""}
        return text
    return str(error) if isinstance(error, AccessDenied) else ""


def is_named(right: Right, scene: Scene, text: str) -> bool:
    """Of a topic that may not be seen nothing may be done; of a transactional id the worker's own rights are told."""
    operation = right.operation.name.title() if right.operation is not AclOperation.DESCRIBE else "[A-Za-z]+"
    resource = scene.resource(right)
    kind = {ResourceType.TOPIC: "topic", ResourceType.GROUP: "group"}.get(right.kind)
    wanted = f"on {kind} {resource}" if kind else f"Write on transactional id {resource.split('/')[0]}/"
    return re.search(f"{operation if kind else ''} ?{re.escape(wanted)}", text) is not None


@pytest.mark.parametrize("right", UNSEEN, ids=named)
async def test_what_may_not_be_seen_ends_the_start(broker: Broker, right: Right) -> None:
    """At a later opening, which reads what the one before has written. The other rights: tests/secured."""
    scene, stop = await Scene.create(broker), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.worker.run(stop))
        assert len(await scene.stream.read(at_least=60)) == 60
        stop.set()
    await scene.take_away(right)
    text = told(await scene.error_that_ends_the_worker())
    assert is_named(right, scene, text), text


@pytest.mark.parametrize("right", [*WHILE_RUNNING, *UNSEEN[:5]], ids=named)
async def test_a_right_that_is_taken_away_ends_the_worker(broker: Broker, right: Right) -> None:
    """While it runs: within seconds, by the same error."""
    scene = await Scene.create(broker)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scene.error_that_ends_the_worker())
        await until(lambda: scene.worker.ready() is None)
        await scene.take_away(right)
        while not running.done():
            await scene.stream.publish(generate(20, seed=3))
    text = told(running.result())
    assert is_named(right, scene, text), text


async def test_a_topic_that_may_not_be_seen_ends_the_listener(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its client reads such a topic no more, and does not say so."""
    monkeypatch.setattr(service, "IDENTITY_CHECK_S", 0.2)
    rights = [
        Right(ResourceType.TOPIC, f"{{}}.{topic}", operation)
        for topic in ("results", "feedback", "audit")
        for operation in (AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
    ]
    scene = await Scene.create(broker, rights)
    settings = ListenerSettings(store=tmp_path / "x.sqlite")
    listener = Listener(broker.login, scene.stream.topics, settings, CollectorRegistry())

    async def listen() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.run(asyncio.Event()))
            await until(lambda: listener.ready() is None)
            await scene.take_away(Right(ResourceType.TOPIC, "{}.results", AclOperation.DESCRIBE))

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(ENDS_WITHIN_S):
            await listen()
    assert f"on topic {scene.stream.topics.results}" in told(raised.value)
