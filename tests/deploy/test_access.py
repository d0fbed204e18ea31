"""The access that Strimzi's overlay grants, tried on a real Kafka with an authorizer: enough, and not too much."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.kafka import admin_client
from streamgauge.provisioning import apply
from streamgauge.rights import Right
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topics import desired, plan
from tests.cluster import ROOT, Stream, until
from tests.deploy.rendering import Object, container, environment, needs_kustomize, of_kind, one, rendered
from tests.oracle import Input
from tests.secured.broker import allow

pytestmark = [needs_kustomize, pytest.mark.timeout(300)]

PARTITIONS = 12
COMMANDS = {
    "topics": ("Job", "streamgauge-topics"),
    "worker": ("Deployment", "streamgauge-worker"),
    "listener": ("StatefulSet", "streamgauge-listener"),
}


def broker_settings(port: int) -> dict[str, str]:
    """A listener with logins beside the plain one, whose nameless user may do everything."""
    logins = " ".join(f'user_{user}="a secret"' for _kind, user in COMMANDS.values())
    return {
        "listeners": f"LOGIN://127.0.0.1:{port}",
        "advertised.listeners": f"LOGIN://127.0.0.1:{port}",
        "listener.security.protocol.map": "LOGIN:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {logins};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def granted(user: Object) -> Iterator[Right]:
    """What Strimzi's operator makes of a user's access lists."""
    for rule in user["spec"]["authorization"]["acls"]:
        resource = rule["resource"]
        is_prefix = resource.get("patternType") == "prefix"
        yield Right(resource["type"], resource["name"], tuple(rule["operations"]), is_prefix)


class Cluster:
    """A Kafka that asks who one is, the topics as Strimzi makes them, and the overlay's containers on it."""

    def __init__(self, embedded: EmbeddedKafka, port: int, folder: Path) -> None:
        self.plain = KafkaSettings(bootstrap_servers=embedded.bootstrap_servers)
        self.stream = Stream(self.plain, TopicSettings(), "streamgauge", PARTITIONS)
        self._port, self._folder, self._objects = port, folder, rendered("strimzi")

    async def set_up(self) -> None:
        async with admin_client(self.plain) as admin:
            for change in plan(desired(TopicSettings(), PARTITIONS, 1, {}), {}):
                await apply(admin, change, 1)
        admin = AdminClient({"bootstrap.servers": self.plain.bootstrap_servers})
        for user in of_kind(self._objects, "KafkaUser"):
            await allow(admin, user["metadata"]["name"], granted(user))

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    @asynccontextmanager
    async def running(self, name: str, user: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
        """The container's command with its environment, but for what is of this machine."""
        workload = one(self._objects, *COMMANDS[name])
        (self._folder / "password").write_text("a secret\n")
        found = environment(self._objects, workload) | {
            "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self._port}",
            "STREAMGAUGE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "STREAMGAUGE_KAFKA_SASL_MECHANISM": "PLAIN",
            "STREAMGAUGE_KAFKA_CA_FILE": "",
            "STREAMGAUGE_KAFKA_PASSWORD_FILE": str(self._folder / "password"),
            "STREAMGAUGE_WORKER_HTTP_PORT": "0",
            "STREAMGAUGE_WORKER_AUDIT_SHARE": "1",
            "STREAMGAUGE_LISTENER_HTTP_PORT": "0",
        }
        if user:
            found["STREAMGAUGE_KAFKA_USERNAME"] = user
        if "STREAMGAUGE_LISTENER_STORE" in found:
            found |= {"STREAMGAUGE_LISTENER_STORE": str(self._folder / "x.sqlite"), "STREAMGAUGE_LISTENER_SHARD": "0/1"}
        _program, *arguments = container(workload)["command"]
        with (self._folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streamgauge",
                *arguments,
                env=os.environ | found,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def cluster(kafka_version: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    embedded = EmbeddedKafka(version=kafka_version, settings=broker_settings(port))
    await asyncio.to_thread(embedded.start)
    try:
        found = Cluster(embedded, port, tmp_path)
        await found.set_up()
        yield found
    finally:
        await asyncio.to_thread(embedded.stop)


async def test_the_access_granted_is_enough(cluster: Cluster) -> None:
    """The job starts the group and changes no topic; the worker scores; the listener reads; each as its own user."""
    async with cluster.running("topics") as job:
        assert await job.wait() == 0, cluster.log("topics")
    changed = [line for line in cluster.log("topics").splitlines() if line.startswith("changed")]
    assert len(changed) == PARTITIONS
    assert all(line.startswith("changed group streamgauge") for line in changed)
    await cluster.stream.publish([Input(b"a fine film", 1.0)] * PARTITIONS)
    async with cluster.running("worker") as worker, cluster.running("listener"):
        results = await cluster.stream.read([cluster.stream.topics.results], at_least=PARTITIONS)
        assert len(results) == PARTITIONS
        await until(lambda: "listener.caught_up" in cluster.log("listener"))
        worker.terminate()
        assert await worker.wait() == 0, cluster.log("worker")
    await cluster.stream.publish([Input(b"a dull film", 0.0)] * PARTITIONS)
    async with cluster.running("worker"):  # a later opening reads what the one before has written
        results = await cluster.stream.read([cluster.stream.topics.results], at_least=2 * PARTITIONS)
        assert len(results) == 2 * PARTITIONS
    assert len(await cluster.stream.read([cluster.stream.topics.audit])) == 2 * PARTITIONS


async def test_users_may_not_do_each_others_work(cluster: Cluster) -> None:
    """The listener's user makes no topic and starts no group; the job's user writes no result."""
    async with cluster.running("topics", user="streamgauge-listener") as job:
        assert await job.wait() == 2
    assert "Kafka does not allow this user: Read on topic sentiment.input" in cluster.log("topics")
    async with cluster.running("topics") as job:
        assert await job.wait() == 0
    await cluster.stream.publish([Input(b"a fine film", 1.0)] * PARTITIONS)
    async with cluster.running("worker", user="streamgauge-topics") as worker:
        assert await worker.wait() == 2
    assert "Write on topic sentiment.results" in cluster.log("worker")
    assert await cluster.stream.read([cluster.stream.topics.results]) == []
    assert set((await cluster.stream.committed()).values()) == {0}
