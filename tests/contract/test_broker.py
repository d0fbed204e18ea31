"""What the embedded broker promises, against the real one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from jgo.maven import Artifact

import streamgauge.broker.embedded
from streamgauge.broker import jars
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.broker.properties import node_properties
from streamgauge.child import free_ports
from streamgauge.errors import BrokerError
from tests.cluster import Kafka

TOPIC = "texts"


async def create_topic(servers: str, name: str, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=replicas)])
    finally:
        await admin.close()


async def send(servers: str, name: str, *values: bytes) -> None:
    """Send the values, each acknowledged by all replicas in sync."""
    async with AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(name, value)


async def read(servers: str, name: str, count: int) -> list[bytes]:
    """Return the topic's first ``count`` values."""
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        partition = TopicPartition(name, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in range(count)]


def until(fact: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a fact; return whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not (true := fact()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return true


def is_gone(pid: int) -> bool:
    """Say whether no such process runs; one that nobody has waited for has ended too."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] in ("", "Z")


@pytest.fixture
def jars_copy(tmp_path: Path) -> Path:
    """A folder of one's own with all the jars."""
    folder = tmp_path / "jars"
    folder.mkdir()
    for path in jars.class_path(None, print):
        os.symlink(path, folder / path.name)
    return folder


@pytest.fixture
def real_cache() -> Path:
    """The user's own cache folder, filled; to be asked for before one that takes its place."""
    return jars.class_path(None, print)[0].parent


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder and a network that refuses everything."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(jars, "_cache_folder", lambda: cache / "kafka")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return cache


@pytest.fixture(scope="module")
def three() -> Iterator[EmbeddedKafka]:
    """A cluster of three nodes, whole again after each test that harms it."""
    with EmbeddedKafka(nodes=3) as cluster:
        yield cluster


async def test_a_record_comes_back(kafka: Kafka) -> None:
    """What a client sends, another reads."""
    await create_topic(kafka.bootstrap_servers, "broker-roundtrip")
    await send(kafka.bootstrap_servers, "broker-roundtrip", b"one", b"two")
    assert await read(kafka.bootstrap_servers, "broker-roundtrip", 2) == [b"one", b"two"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_records_survive(tmp_path: Path, how: str) -> None:
    """A kept data folder continues with its records and its cluster id, whatever ended the broker before."""
    kept = EmbeddedKafka(data_dir=tmp_path / "mine, and Łódź's")
    await asyncio.to_thread(kept.start)
    await create_topic(kept.bootstrap_servers, TOPIC)
    await send(kept.bootstrap_servers, TOPIC, b"before")
    if how == "killed":
        kept.nodes[0].kill()
    await asyncio.to_thread(kept.stop)
    meta = tmp_path / "mine, and Łódź's/node-1/data/meta.properties"
    cluster_id = meta.read_text()

    with EmbeddedKafka(data_dir=tmp_path / "mine, and Łódź's") as again:
        await send(again.bootstrap_servers, TOPIC, b"after")
        assert await read(again.bootstrap_servers, TOPIC, 2) == [b"before", b"after"]
    assert meta.read_text() == cluster_id


async def test_the_data_folder_can_hold_one_broker_only(tmp_path: Path) -> None:
    """A second broker on the same folder is refused, by the folder's name; so is one of another size."""
    in_use = pytest.raises(BrokerError, match=f"{tmp_path} is the data folder of a broker that runs")
    with EmbeddedKafka(data_dir=tmp_path), in_use:
        EmbeddedKafka(data_dir=tmp_path).start()
    with pytest.raises(BrokerError, match="holds a cluster of 1 nodes, not 3"):
        EmbeddedKafka(data_dir=tmp_path, nodes=3).start()


async def test_a_listener_can_be_added(tmp_path: Path) -> None:
    """Plain settings add a listener to ours; the log has none of Kafka's complaints about them."""
    (port,) = free_ports(1)
    extra = {
        "listeners": f"EXTRA://127.0.0.1:{port}",
        "advertised.listeners": f"EXTRA://127.0.0.1:{port}",
        "listener.security.protocol.map": "EXTRA:PLAINTEXT",
    }
    with EmbeddedKafka(data_dir=tmp_path, settings=extra) as embedded:
        await create_topic(f"127.0.0.1:{port}", TOPIC)
        await send(f"127.0.0.1:{port}", TOPIC, b"by the side door")
        assert await read(embedded.bootstrap_servers, TOPIC, 1) == [b"by the side door"]


def test_only_loopback_is_bound() -> None:
    """Nobody outside this machine can reach a listener."""
    properties = node_properties(1, 9092, {1: 9093})
    hosts = [listener.split("//")[1].split(":")[0] for listener in properties["listeners"].split(",")]
    assert hosts == ["127.0.0.1", "127.0.0.1"]


def test_an_altered_jar_is_refused(jars_copy: Path) -> None:
    """A jar whose content differs never reaches Java, and the message names it."""
    jar = jars_copy / "slf4j-simple-1.7.36.jar"
    content = jar.read_bytes()
    jar.unlink()
    jar.write_bytes(content[:-1] + b"x")
    with pytest.raises(BrokerError, match=rf"{jar} is not the file that the lock names.*delete it and run"):
        EmbeddedKafka(jars_dir=jars_copy).start()


def test_a_missing_jar_is_refused(jars_copy: Path) -> None:
    """A folder of jars that lacks one is refused, by the jar's name."""
    (jars_copy / "re2j-1.8.jar").unlink()
    with pytest.raises(BrokerError, match=r"lacks 1 jars.*re2j-1\.8\.jar"):
        EmbeddedKafka(jars_dir=jars_copy).start()


def test_a_jar_too_many_is_refused(jars_copy: Path) -> None:
    """A jar that the lock does not name is refused, by its name."""
    (jars_copy / "surprise.jar").write_bytes(b"")
    with pytest.raises(BrokerError, match=r"surprise\.jar, which the lock file does not name; remove it"):
        EmbeddedKafka(jars_dir=jars_copy).start()


def test_a_first_run_without_a_network_says_what_it_needs(empty_cache: Path) -> None:
    """The message has the artefacts, their size and the ways to bring them; nothing half-done is left."""
    with pytest.raises(BrokerError) as caught:
        EmbeddedKafka().start()
    message = str(caught.value)
    for part in ("46 jars", "45 MB", "org.apache.kafka:kafka_2.13:4.4.0", "--jars-dir", str(empty_cache)):
        assert part in message
    assert "nothing else is missing" in message
    assert list((empty_cache / "kafka").iterdir()) == []
    assert not (empty_cache / "kafka.part").exists()


def test_a_download_that_ends_halfway_is_continued(
    real_cache: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come and been checked is kept, and the next run fetches the rest."""
    asked: list[str] = []

    def copy(jar: jars.Jar, scratch: Path) -> Path:
        asked.append(jar.file_name)
        if len(asked) == 20:
            raise ConnectionError("the cable was pulled")
        scratch.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(real_cache / jar.file_name, scratch))

    monkeypatch.setattr(jars, "_download_one", copy)
    with pytest.raises(BrokerError, match="the cable was pulled"):
        jars.class_path(None, print)
    kept = {path.name for path in (empty_cache / "kafka").iterdir()}
    assert kept
    asked[:] = ["never again"] * 20

    told: list[str] = []
    assert len(jars.class_path(None, told.append)) == 46
    assert kept.isdisjoint(asked)
    assert told[0].startswith("downloading Apache Kafka 4.4.0: 0 of ")


def test_a_jar_that_comes_altered_is_not_kept(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository or a proxy that serves another content is refused, and nothing of it stays."""
    served = b"not a jar"

    def write(artifact: Artifact) -> Path:
        path = artifact.cached_path
        assert path is not None
        path.parent.mkdir(parents=True)
        path.write_bytes(served)
        return path

    monkeypatch.setattr(Artifact, "resolve", write)
    with pytest.raises(BrokerError, match="is not the jar that the lock names") as caught:
        jars.class_path(None, print)
    assert hashlib.sha256(served).hexdigest() in str(caught.value)
    assert list((empty_cache / "kafka").iterdir()) == []


def test_a_port_in_use_is_refused() -> None:
    """A given port that is taken is refused before Java starts, by its number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 cannot be had"):
            EmbeddedKafka(port=port).start()


def test_a_port_taken_at_the_last_moment_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen ports that are gone when Kafka binds them are chosen again, once."""
    choose = free_ports
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = [server.getsockname()[1], *choose(1)]
        answers = [taken, choose(2)]
        monkeypatch.setattr(streamgauge.broker.embedded, "free_ports", lambda _count: answers.pop(0))
        with EmbeddedKafka() as embedded:
            assert embedded.nodes[0].port != taken[0]


def test_a_failed_start_names_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    """The message has the log's path and Kafka's own reason, and no process is left."""
    embedded = EmbeddedKafka(data_dir=tmp_path, settings={"num.io.threads": "none"})
    with pytest.raises(BrokerError, match=r"(?s)node-1\.log.*num\.io\.threads") as caught:
        embedded.start()
    assert str(caught.value).count("\n") <= 20
    assert [node.pid for node in embedded.nodes] == [None]


def test_stop_may_be_called_at_any_time() -> None:
    """Stopping before the start, and twice after it, does nothing more; the temporary folder is gone."""
    embedded = EmbeddedKafka()
    embedded.stop()
    embedded.start()
    folder = embedded.nodes[0].log_path.parent
    embedded.stop()
    embedded.stop()
    assert not folder.exists()


def test_a_stopped_node_ends_cleanly(tmp_path: Path) -> None:
    """A node frozen by SIGSTOP still shuts down, well before the time at which it would be killed."""
    with EmbeddedKafka(data_dir=tmp_path) as embedded:
        embedded.nodes[0].kill(signal.SIGSTOP)
        embedded.nodes[0].stop()
        assert embedded.nodes[0].pid is None
        assert (tmp_path / "node-1/data/.kafka_cleanshutdown").exists()


PARENT = """
import sys, time
from streamgauge.broker.embedded import EmbeddedKafka
embedded = EmbeddedKafka(data_dir=sys.argv[1])
embedded.start()
embedded.nodes[0].kill()
embedded.nodes[0].start()
embedded.nodes[0].wait_ready()
print(embedded.nodes[0].pid, flush=True)
time.sleep(600)
"""


def test_java_ends_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL for the process that started the broker ends Java too, also a node that was started again."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        assert until(lambda: is_gone(pid), 30.0)


async def test_two_of_three_nodes_serve(three: EmbeddedKafka) -> None:
    """With one node killed, what was acknowledged is there and more is accepted; the node then comes back."""
    await create_topic(three.bootstrap_servers, TOPIC, replicas=3)
    await send(three.bootstrap_servers, TOPIC, b"three")
    victim = three.nodes[0]
    victim.kill()
    assert victim.pid is None
    await send(three.bootstrap_servers, TOPIC, b"two")
    assert await read(three.bootstrap_servers, TOPIC, 2) == [b"three", b"two"]

    victim.start()
    await asyncio.to_thread(victim.wait_ready, among=[1, 2, 3])
    await send(f"127.0.0.1:{victim.port}", TOPIC, b"three again")
    assert await read(f"127.0.0.1:{victim.port}", TOPIC, 3) == [b"three", b"two", b"three again"]
