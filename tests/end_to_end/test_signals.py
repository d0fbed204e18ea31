"""A signal ends every command at once, and every wait for Kafka ends at the deadline that the user has set."""

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamgauge.broker.embedded import EmbeddedKafka
from tests.cluster import Stream, until
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, environment_of
from tests.oracle import Input

AT_ONCE_S = 20.0
"""Far less than the minute for which an unreachable broker is waited for; a busy machine needs seconds."""


class SilentPort:
    """Accepts connections, and never answers: a firewall, or another service."""

    def __init__(self) -> None:
        self.was_reached = asyncio.Event()
        self.address = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["SilentPort"]:
        connections = []

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            self.was_reached.set()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield self
        server.close()
        for writer in connections:
            writer.close()
            await writer.wait_closed()


async def start(*command: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamgauge", *command, env=QUIET_ENVIRONMENT | environment, stdout=PIPE, stderr=PIPE
    )


async def ended(process: Process) -> tuple[int | None, str]:
    """Exit code and standard error of a process that ends at once."""
    try:
        async with asyncio.timeout(AT_ONCE_S):
            _output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, errors.decode()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for it, as Linux tells."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[0], 16)
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("worker --http-port 0", 0),
        ("listen --http-port 0", 0),
        ("tail results", 0),
        ("top", 0),
        ("produce x", 1),
        ("produce --wait x", 1),
        ("feedback a/b POSITIVE", 1),
        ("stats", 143),
        ("audit", 143),
        ("topics create", 143),
        ("skip sentiment.input:0:0", 143),
        ("replay --reason skipped", 143),
    ],
)
async def test_a_signal_ends_a_command_that_waits_for_kafka(command: str, code: int) -> None:
    """Services end with 0, commands as shells have it; those that send say that nothing was sent."""
    async with SilentPort().listening() as port:
        process = await start(*command.split(), STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=port.address)
        await port.was_reached.wait()
        process.send_signal(signal.SIGTERM)
        returned, errors = await ended(process)
    assert (returned, "Traceback" in errors) == (code, False), errors


async def test_a_signal_has_a_handler_before_anything_is_loaded() -> None:
    """Else process 1 of a container would not get it, and be killed when its time to stop is over."""
    process = await start("worker", "--http-port", "0", STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    await until(lambda: catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == (143, "")


HANGING_SERVICE = """
import asyncio, os
from streamgauge.lifecycle import run

async def hang(stop):
    print(os.readlink("/proc/self"), flush=True)
    await stop.wait()
    print("is stopping", flush=True)
    await asyncio.Event().wait()

run(hang)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="making a process 1 needs root and unshare (util-linux)"
)
async def test_a_second_signal_ends_process_1_at_once() -> None:
    """The kernel gives it no signal that has no handler; the service would hang until it is killed."""
    command = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HANGING_SERVICE)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        async with asyncio.timeout(2 * AT_ONCE_S):
            assert process.stdout
            pid = int(await process.stdout.readline())
            os.kill(pid, signal.SIGTERM)
            while await process.stdout.readline() != b"is stopping\n":
                pass
            os.kill(pid, signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_that_never_answers_is_given_up_at_the_deadline() -> None:
    """It is not a client's 40 s, but the user's `connect_timeout_s` that counts."""
    async with SilentPort().listening() as port:
        process = await start(
            *("topics", "create"),
            STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=port.address,
            STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S="0.5",
        )
        await port.was_reached.wait()
        code, errors = await ended(process)
    assert (code, f"no Kafka broker answered at {port.address} within 0.5 s" in errors) == (1, True), errors


async def test_worker_and_tail_end_in_peace_after_the_broker_has_gone() -> None:
    """SIGTERM then gives exit code 0, without a traceback."""
    broker = EmbeddedKafka()
    await asyncio.to_thread(broker.start)
    processes = []
    try:
        stream = await Stream.create(broker.bootstrap_servers)
        settings = environment_of(stream)
        worker = await start("worker", "--http-port", "0", **settings)
        tail = await start("tail", "results", "--from", "earliest", **settings)
        processes = [worker, tail]
        await stream.publish([Input(b"what a lovely film", 0)])
        assert tail.stdout
        assert b"POSITIVE" in await tail.stdout.readline()
    finally:
        await asyncio.to_thread(broker.stop)
        for process in processes:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        code, errors = await ended(process)
        assert (code, "Traceback" in errors) == (0, False), errors


async def test_a_broker_that_cannot_make_its_transaction_log_is_refused_by_name() -> None:
    """The commonest mistake with one broker: three replicas of its own topics. Each command says so at once."""
    setting = "transaction.state.log.replication.factor"
    broker = EmbeddedKafka(settings={setting: "3"})
    await asyncio.to_thread(broker.start)
    try:
        for command in ("topics create", "skip sentiment.input:0:0", "replay --reason skipped", "worker --http-port 0"):
            process = await start(*command.split(), STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap_servers)
            async with asyncio.timeout(30):
                _output, errors = await process.communicate()
            assert process.returncode == 2, errors.decode()
            assert re.search(rf"__transaction_state: their setting {setting} is 3, but there are 1", errors.decode())
    finally:
        await asyncio.to_thread(broker.stop)
