"""`streamgauge top` on a real stack: two workers of which one dies, brokers that go, and all ways to end it."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamgauge.broker.embedded import EmbeddedKafka
from tests.cluster import Kafka, Stream
from tests.end_to_end.test_commands import (
    PORTS,
    QUIET_ENVIRONMENT,
    SECRET,
    STREAMGAUGE,
    environment_of,
    run,
    service,
)
from tests.oracle import Input
from tests.terminal import Seat, at_terminal

NOBODY = dict.fromkeys(PORTS, "1")
"""Where nobody serves anything, whatever runs on this machine."""
pytestmark = pytest.mark.timeout(600)
AUDIT_ALL = {"STREAMGAUGE_WORKER_AUDIT_SHARE": "1"}


@contextmanager
def lines_of(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """The command in a pipe, and its lines as they come."""
    process = subprocess.Popen(
        [*STREAMGAUGE, "top", *arguments],
        env=QUIET_ENVIRONMENT | NOBODY | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield process, iter(process.stdout.readline, "")
    finally:
        process.kill()
        process.communicate()


def until_line(lines: Iterator[str], *parts: str) -> str:
    """The first line that has all of these; the test's own timeout bounds the wait."""
    for line in lines:
        print(line, end="")  # shown when the test fails
        if all(re.search(part, line) for part in parts):
            return line
    raise AssertionError(parts)


def named(stream: Stream, name: str) -> dict[str, str]:
    """The environment of a worker of this name."""
    return environment_of(stream) | AUDIT_ALL | {"STREAMGAUGE_WORKER_INSTANCE": name, "OMP_NUM_THREADS": "1"}


async def publish(stream: Stream, count: int) -> None:
    await stream.publish(
        [Input(json.dumps({"id": f"id-{n}", "text": f"{SECRET} {n}"}).encode(), 0) for n in range(count)]
    )


async def test_two_workers_one_of_which_dies(kafka: Kafka, tmp_path: Path) -> None:
    """Both are seen, though only one is asked itself. Of the dead one it is said that it has gone; lag stays known."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream) | {"STREAMGAUGE_LISTENER_STORE": str(tmp_path / "listener.sqlite")}
    with (
        service("-m", "worker", **named(stream, "w-a")) as (_a, port, _log),
        service("-m", "worker", **named(stream, "w-b")) as (dying, _port, _log_b),
        service("-m", "feedback_listener", **settings) as (_l, listener_port, _log_l),
        lines_of(
            *("--worker", f"http://localhost:{port}", "--listener", f"http://localhost:{listener_port}"), **settings
        ) as (top, lines),
    ):
        until_line(lines, "workers 1 ready, w-b in the group", "lag 0 ")
        await publish(stream, 200)
        until_line(lines, r"latency p50 [\d.]+ m?s p99 [\d.]+ m?s")  # it is of the last seconds only
        await stream.read(at_least=200)
        (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"id-{n},POSITIVE\n" for n in range(100)))
        assert run("feedback", "--file", str(tmp_path / "labels.csv"), **settings).returncode == 0
        line = until_line(lines, "audit .*, 100 labels; all .*, 100 labels[^!]*$")
        dying.kill()
        until_line(lines, "workers 1 ready, w-b gone", "lag 0 ")
        assert SECRET not in line
        top.send_signal(signal.SIGINT)
        _out, errors = top.communicate()
        assert (top.returncode, errors) == (0, "")


async def test_what_does_not_answer_is_not_zero(kafka: Kafka) -> None:
    """Without a worker that can be asked, group and events tell; without a listener there is no accuracy."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await publish(stream, 30)
    with lines_of(**environment_of(stream)) as (_process, lines):
        line = until_line(lines, "lag 30 ")
        assert "workers 0 ready" in line
        assert "accuracy" not in line
        assert "! worker http://localhost:1: no worker answers: Connection refused" in line
        assert "! listener http://localhost:1: no listener answers: Connection refused" in line


async def test_brokers_that_go_and_come_back(tmp_path: Path) -> None:
    """Meanwhile a worker's own numbers are shown as such, and what only brokers know is not."""
    broker = EmbeddedKafka(data_dir=tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        stream = await Stream.create(broker.bootstrap_servers)
        with (
            service("-m", "worker", **named(stream, "w-a")) as (_worker, port, _log),
            lines_of("--worker", f"http://localhost:{port}", **environment_of(stream)) as (top, lines),
        ):
            until_line(lines, "workers 1 ready", "lag 0 ")
            await asyncio.to_thread(broker.stop)
            line = until_line(lines, "! metric events, the workers' group: no Kafka broker answered")
            assert "throughput and latency are of the workers that answer at their URLs alone" in line
            until_line(lines, "lag not known", "workers 0 ready, w-a not ready")
            broker = EmbeddedKafka(data_dir=tmp_path, port=int(broker.bootstrap_servers.split(":")[1]))
            await asyncio.to_thread(broker.start)
            line = until_line(lines, "workers 1 ready", "lag 0 ")
            assert "metric events" not in until_line(lines, "workers 1 ready", "lag 0 ")
            top.send_signal(signal.SIGTERM)
            assert top.wait() == 0
    finally:
        await asyncio.to_thread(broker.stop)


def shows(seat: Seat, *parts: str) -> None:
    """Wait until frames have shown all of these, in any order."""
    left, screen = set(parts), ""
    while left:
        screen += seat.until("\n")
        left = {part for part in left if part not in screen}


@pytest.mark.parametrize("end", ["q", "Q", "\x03", "\x04"])
async def test_each_way_to_end(kafka: Kafka, end: str) -> None:
    """At a terminal: with texts when they are asked for; it ends at once, and the terminal is as it was."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with service("-m", "worker", **named(stream, "w-a")) as (_worker, port, _log):
        await publish(stream, 4)
        await stream.read(at_least=4)
        arguments = ["top", "--worker", f"http://localhost:{port}", "--texts"]
        with at_terminal(arguments, QUIET_ENVIRONMENT | NOBODY | environment_of(stream) | {"TERM": "xterm"}) as seat:
            before = seat.attributes()
            shows(seat, "Streamgauge, ", "w-a", f"{SECRET} 3", "q ends")
            assert seat.attributes() != before
            seat.type(end)
            assert seat.ended() == (0, "")
            assert seat.attributes() == before


@pytest.mark.parametrize(
    ("terminal", "has_escapes", "is_ascii"),
    [
        ({"TERM": "xterm", "PYTHONIOENCODING": "ascii"}, True, True),
        ({"TERM": "xterm", "LANG": "C", "LC_ALL": "C"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, True),
    ],
)
async def test_terminals_of_all_kinds(
    kafka: Kafka, terminal: dict[str, str], has_escapes: bool, is_ascii: bool
) -> None:
    """No traceback, nothing that the terminal has not, and no text unasked."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with service("-m", "worker", **named(stream, "w-a")) as (_worker, port, _log):
        await publish(stream, 4)
        await stream.read(at_least=4)
        environment = QUIET_ENVIRONMENT | NOBODY | environment_of(stream) | terminal
        with at_terminal(["top", "--worker", f"http://localhost:{port}"], environment) as seat:
            screen = seat.until("w-a" if has_escapes else "workers 1 ready") + seat.until("\n")
            assert (("\x1b[" in screen), screen.isascii()) == (has_escapes, is_ascii)
            os.kill(seat.process.pid, signal.SIGINT)
            assert seat.ended() == (0, "")
    assert SECRET not in screen


def test_nobody_at_all_is_an_error() -> None:
    """Whoever has mistyped an address learns which do not answer."""
    ended = run("top", "-b", "127.0.0.1:1", STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S="0.5", **NOBODY)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "worker http://localhost:1: no worker answers: Connection refused\n" in ended.stderr
    assert "no Kafka broker answered at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_reader_who_leaves_ends_it(kafka: Kafka) -> None:
    """As after `| head -1`."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with lines_of(**environment_of(stream)) as (process, lines):
        next(lines)
        assert process.stdout
        process.stdout.close()
        assert process.wait() == 0
