"""The commands as a user types them: what they print, what they serve, how they end."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer

from streamgauge.commands.cli import app
from tests.cluster import Kafka, Stream
from tests.oracle import Input
from tests.terminal import at_terminal

STREAMGAUGE = [sys.executable, "-m", "streamgauge"]
PORTS = ("STREAMGAUGE_WORKER_HTTP_PORT", "STREAMGAUGE_LISTENER_HTTP_PORT")
SECRET = "a-very-secret-review"
QUIET_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("STREAMGAUGE_")}


def run(*arguments: str | bytes, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STREAMGAUGE, *arguments],
        env=QUIET_ENVIRONMENT | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment_of(stream: Stream) -> dict[str, str]:
    return {
        "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": stream.kafka.bootstrap_servers,
        "STREAMGAUGE_TOPIC_PREFIX": stream.topics.prefix,
        "STREAMGAUGE_WORKER_GROUP": stream.group,
    }


@contextmanager
def service(*command: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """A service in the background: the process, the port of its HTTP side, and its log so far."""
    process = subprocess.Popen(
        [sys.executable, *command, "--http-port", "0"],
        env=QUIET_ENVIRONMENT | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        log = []
        for line in process.stderr:
            log.append(line)
            if '"http.serving"' in line:
                break
        yield process, json.loads(log[-1])["port"], log
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def every_command(group: Any, path: str = "") -> Iterator[str]:
    """The commands of a group and of the groups in it, as they are typed."""
    for name, command in group.commands.items():
        yield from every_command(command, f"{name} ") if hasattr(command, "commands") else [path + name]


@pytest.mark.parametrize("command", [*every_command(typer.main.get_command(app))])
def test_help_shows_examples(command: str) -> None:
    """Every command explains itself with an example."""
    shown = run(*command.split(), "--help", COLUMNS="200")
    assert shown.returncode == 0
    _options, examples = re.split(r"\n *Examples?: *\n", shown.stdout)
    for example in filter(None, map(str.strip, examples.splitlines())):
        assert f"streamgauge {command}" in example, "each on its own line, to be copied"


def test_help_is_quick() -> None:
    """What a command needs is imported when it runs: settings, clients, models."""
    program = "import sys, streamgauge.commands.cli; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"aiokafka", "numpy", "pydantic", "structlog"} & set(shown.stdout.split())


def test_help_breaks_lines_where_the_terminal_ends() -> None:
    """Not where the source does."""
    shown = run("produce", "--help", COLUMNS="200")
    assert "if anything is wrong in it, nothing is sent. Its column `id` names the results" in shown.stdout


def test_the_version_is_that_of_the_distribution() -> None:
    """`--version` needs no command."""
    assert run("--version").stdout == f"streamgauge {metadata.version('streamgauge')}\n"


@contextmanager
def answering(status: int, text: str) -> Iterator[tuple[str, list[str]]]:
    """A service that gives one answer: its port, and the paths that it was asked for."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield str(server.server_port), asked
        finally:
            server.shutdown()


def test_probe_is_a_health_check() -> None:
    """Exit code 0 only for a service that is well; without a name whoever listens is asked."""
    worker, listener = PORTS
    with answering(200, "ok") as (good, asked), answering(503, "no partitions yet") as (bad, _asked):
        one = run("probe", **{worker: "1", listener: good})
        assert (one.returncode, one.stdout, asked) == (0, "listener: ok\n", ["/readyz"])
        assert run("probe", "worker", "--live", **{worker: good, listener: bad}).returncode == 0
        assert asked[1:] == ["/livez"]
        both = run("probe", **{worker: bad, listener: good})
        assert (both.returncode, both.stderr) == (1, "error: worker: no partitions yet\n")
        assert run("probe", "worker", **{worker: "1", listener: good}).returncode == 1


def test_probe_does_not_wait_for_ever() -> None:
    """A service that takes the connection and says nothing is not well."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ended = run("probe", "worker", "--timeout-s", "0.2", **{PORTS[0]: str(silent.getsockname()[1])})
    assert ended.returncode == 1
    assert "worker: no answer to /readyz: timed out" in ended.stderr


@pytest.mark.parametrize("module", ["worker", "producer", "feedback_listener"])
def test_services_are_modules_too(module: str) -> None:
    """`python -m worker` and its like are the commands."""
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Example" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["worker"], {"STREAMGAUGE_WORKER_GRUOP": "x"}, 2, "STREAMGAUGE_WORKER_GRUOP: no such setting; the nearest is"),
        (["worker", "--start-from", "middle"], {}, 2, "STREAMGAUGE_WORKER_START_FROM: Input should be 'earliest'"),
        (["worker", "--model-dir", "/nowhere"], {}, 2, "cannot read /nowhere/config.json: No such file"),
        (
            ["listen", "-b", "127.0.0.1:1"],
            {"STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S": "0.5"},
            1,
            "no Kafka broker answered",
        ),
        (["produce", "x", "-b", "127.0.0.1:1"], {"STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S": "0.5"}, 1, "no Kafka broker"),
        (
            ["listen", "-b", "127.0.0.1:1", "--store", "/proc/no/file"],
            {},
            1,
            "LISTENER_STORE=/proc/no/file: No such file",
        ),
        (["broker", "--port", "29599", "--data-dir", "/dev/null/x"], {}, 1, "/dev/null/x cannot be a data folder"),
        (["tail", "results", "-b", "http://127.0.0.1:1"], {}, 2, "must be host:port, without http://"),
        (["produce", "--file", "/nowhere.csv"], {}, 2, "/nowhere.csv: No such file"),
        (["produce", "fine", b"caf\xe9"], {}, 2, "argument 3 is not UTF-8"),
        (["feedback", b"caf\xe9", "POSITIVE"], {}, 2, "argument 2 is not UTF-8"),
        (["feedback", "a", "x", "--label-map", b"caf\xe9=y"], {}, 2, "argument 5 is not UTF-8"),
        (["feedback", "a", " "], {}, 2, "not a label that can be sent"),
        (["listen", "--shard", "3/3"], {}, 2, "STREAMGAUGE_LISTENER_SHARD: Value error, must be NUMBER/OF such as 0/3"),
        (["reconcile", "--listener", "http://127.0.0.1:1"], {}, 1, "http://127.0.0.1:1: no listener answers"),
        (["probe"], dict.fromkeys(PORTS, "1"), 1, "nobody answers: worker on port 1, listener on port 1"),
        (["feedback", "only-an-id"], {}, 2, "give either a message id and a label, or --file"),
    ],
)
def test_refusals_are_clear(arguments: list[str | bytes], environment: dict[str, str], code: int, message: str) -> None:
    """One line says what is wrong, the exit code whether it was the usage (2) or the world (1)."""
    ended = run(*arguments, **environment)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_broker_a_person_has_one_line_after_five_seconds() -> None:
    """A service waits for a minute, because brokers start beside it."""
    ended = run("stats", "-b", "127.0.0.1:1")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith("error: no Kafka broker answered at 127.0.0.1:1 within 5 s; is one running?")


async def test_worker_process_serves_and_ends_cleanly(kafka: Kafka, tmp_path: Path) -> None:
    """A worker with the real model scores, says nothing of the texts, serves its checks, and ends on SIGTERM with 0."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await stream.publish([Input(f"{SECRET} {number}".encode(), 0) for number in range(50)] + [Input(b"\xff", 0)])
    with service("-m", "worker", **environment_of(stream)) as (process, port, log):
        [*results, letter] = sorted(await stream.read(at_least=51), key=lambda record: "dead" in record.topic)
        assert (len(results), letter.value) == (50, b"\xff")
        assert get(port, "/livez") == (200, "ok")
        assert get(port, "/readyz") == (200, "ok")
        metrics = get(port, "/metrics")[1]
        assert re.search(
            r'ml_model_requests_total\{label="(POSITIVE|NEGATIVE)",model="distilbert-sst2-compact@', metrics
        )
        assert 'streamgauge_dead_letters_total{reason="not_utf8"} 1.0' in metrics
        for command, setting in zip(("worker", "listen"), PORTS, strict=True):
            store = {"STREAMGAUGE_LISTENER_STORE": str(tmp_path / "listener.sqlite")}
            clash = run(command, "--http-port", str(port), **environment_of(stream) | store)
            assert clash.returncode == 1
            assert f"cannot serve metrics on 0.0.0.0:{port}: another program has this port; for a sec" in clash.stderr
            assert f"give --http-port 0 (or {setting}), which takes a free one" in clash.stderr
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1].splitlines()
        assert process.returncode == 0
    assert not any(SECRET in line for line in [*log, *rest])
    assert all(json.loads(line)["event"] for line in [*log, *rest])
    assert not any(SECRET.encode() in record.value for record in results)


async def test_texts_and_labels_from_the_command_line(kafka: Kafka, tmp_path: Path) -> None:
    """Texts go in as arguments, as a file, by standard input; the printed ids take labels; the listener judges them."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream) | {"STREAMGAUGE_LISTENER_STORE": str(tmp_path / "listener.sqlite")}
    ids = run("produce", "what a lovely film", "utterly dreadful", **settings).stdout.split()
    (tmp_path / "more.csv").write_text('id,text,label\nm1,"good, really",1\n,"dull, sadly",0\n')
    assert "published 2 texts" in run("produce", "--file", str(tmp_path / "more.csv"), **settings).stderr
    assert "published 2 texts" in run("produce", stdin="one line\n\nanother\n", **settings).stderr
    with (
        service("-m", "streamgauge", "worker", **settings),
        service("-m", "feedback_listener", **settings) as (_process, port, _log),
    ):
        results = await stream.read(at_least=6)
        assert {*ids, "m1"} < {record.key.decode() for record in results}
        (tmp_path / "labels.jsonl").write_text(json.dumps({"id": ids[1], "label": "negative"}) + "\n")
        given = run("feedback", ids[0], "positive", "--source", "anna", **settings)
        assert (given.returncode, "judged: the model said POSITIVE" in given.stderr) == (0, True), given.stderr
        assert "sent 1 label to" in run("feedback", "--file", str(tmp_path / "labels.jsonl"), **settings).stderr
        assert "sent 2 labels" in run("feedback", "--file", str(tmp_path / "more.csv"), **settings).stderr
        odd = run("feedback", ids[0], "meh", **settings)
        assert (odd.returncode, "fit no class of the model (NEGATIVE, POSITIVE): meh (1)" in odd.stderr) == (1, True)
        accuracy = 'ml_model_accuracy{model="distilbert-sst2-compact@2.0.0",window="all"} 1.0'
        judged = re.compile(r'streamgauge_judged_predictions\{.*window="all"\} (\S+)')
        while sum(map(float, judged.findall(metrics := get(port, "/metrics")[1]))) < 4:
            assert 'outcome="unknown_class",partition="0",window="all"} 1.0' not in metrics
        assert accuracy in metrics
        reconciled = run("reconcile", "--listener", f"http://127.0.0.1:{port}", **settings)
        assert (reconciled.returncode, "all equal" in reconciled.stdout) == (0, True)
        shown = json.loads(run("accuracy", "--json", "--listener", f"127.0.0.1:{port}", **settings).stdout)
        from_topics = run("accuracy", "--json", **settings | {PORTS[1]: "1"})
        counted = json.loads(from_topics.stdout)
        assert (shown.pop("source"), counted.pop("source")) == (f"the listener at 127.0.0.1:{port}", "the topics")
        assert counted["models"] == shown["models"]
        assert "http://localhost:1: no listener answers: " in from_topics.stderr
        of_all = shown["models"]["distilbert-sst2-compact@2.0.0"]["accuracy"]["all"]["labels"]
        assert of_all.pop("wilson") == pytest.approx([0.51, 1], abs=0.01)
        assert of_all == {"accuracy": 1, "right": 4, "judged": 4, "predictions": 6}
        table = run("accuracy", **settings | {PORTS[1]: str(port)}).stdout
        assert re.search(r"^all +all +100.0% +51.0% to 100.0% +4 +4 +6$", table, re.MULTILINE), table
        second = run("listen", "--http-port", "0", **settings)
        assert (second.returncode, "another listener has it open" in second.stderr) == (2, True)


async def test_a_text_is_scored_while_one_waits(kafka: Kafka) -> None:
    """The id alone on its line, then label, score and id; without a worker an end, and the exit code 1."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream)
    late = run("produce", "--wait", "--timeout-s", "0.5", "an early text", **settings)
    assert (late.returncode, late.stdout.startswith("producer/")) == (1, True)
    assert f"results that did not come within 0.5 s: 1 ({late.stdout.strip()}); the texts are published" in late.stderr
    with service("-m", "worker", **settings):
        done = run("produce", "--wait", "what a lovely film", "utterly dreadful", **settings)
    first, second, *results = done.stdout.splitlines()
    assert done.returncode == 0
    assert {first, second} == {line.split()[2] for line in results}
    assert {line.split()[0] for line in results if line.endswith(first)} == {"POSITIVE"}
    assert {line.split()[0] for line in results if line.endswith(second)} == {"NEGATIVE"}
    of_nothing = run("produce", "--wait", stdin="x\n", **settings)
    assert (of_nothing.returncode, "--wait is for texts that are given as arg" in of_nothing.stderr) == (2, True)


async def test_at_a_terminal_nothing_is_glued_to_an_id(kafka: Kafka) -> None:
    """Where both outputs are one screen; and `tail` says what it waits for."""
    stream = await Stream.create(kafka.bootstrap_servers)
    environment = QUIET_ENVIRONMENT | environment_of(stream) | {"TERM": "xterm-256color"}
    with at_terminal(["produce", "one", "two"], environment, errors_are_shown=True) as seat:
        shown = seat.until("published 2 texts")
    assert re.fullmatch(r"(producer/[0-9a-f]{32}\r\n){2}", shown), shown
    with at_terminal(["tail", "results"], environment, errors_are_shown=True) as seat:
        said = seat.until("Ctrl-C ends\r\n")
        assert said == f"waiting for records in {stream.topics.results} from now on; earlier ones: --from 1h; "


async def test_half_of_something_is_told(kafka: Kafka, tmp_path: Path) -> None:
    """Nothing of a broken file is sent, however often it is tried; a reader who leaves is named, with the number."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream)
    (tmp_path / "late.csv").write_text("text,label\n" + "fine,1\n" * 5000 + "one, too many,1\n")
    for _ in range(2):
        refused = run("produce", "--file", str(tmp_path / "late.csv"), **settings)
        assert (refused.returncode, "late.csv, line 5002: 3 columns, the header has 2" in refused.stderr) == (2, True)
    assert await stream.read([stream.topics.input]) == []
    piped = await asyncio.create_subprocess_exec(
        *("bash", "-c", 'set -o pipefail; "$0" -m streamgauge produce $(seq 3000) | head -1', sys.executable),
        env=QUIET_ENVIRONMENT | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    shown, errors = await piped.communicate()
    told = re.fullmatch(r"error: nobody reads the message ids .* published (\d+) of 3000 .*\n", errors.decode())
    assert told, errors
    assert (piped.returncode, shown.count(b"\n")) == (1, 1)
    assert len(await stream.read([stream.topics.input])) == int(told[1]) < 3000


async def test_a_full_disk_ends_the_listener_by_name(kafka: Kafka, tmp_path: Path) -> None:
    """Exit code 1 and the setting; with room again it goes on, and its numbers follow from the topics."""
    stream = await Stream.create(kafka.bootstrap_servers)
    store = tmp_path / "listener.sqlite"
    settings = environment_of(stream) | {"STREAMGAUGE_LISTENER_STORE": str(store)}
    labels = "".join(json.dumps({"id": f"nobody-{number}", "label": "neg"}) + "\n" for number in range(20_000))
    (tmp_path / "labels.jsonl").write_text(labels)
    run("feedback", "--file", str(tmp_path / "labels.jsonl"), **settings)
    limited = 'ulimit -f 600; exec "$0" -m feedback_listener --http-port 0'
    full = await asyncio.create_subprocess_exec(
        *("sh", "-c", limited, sys.executable), env=QUIET_ENVIRONMENT | settings, stderr=subprocess.PIPE
    )
    _output, errors = await full.communicate()
    assert (full.returncode, f"error: STREAMGAUGE_LISTENER_STORE={store}: " in errors.decode()) == (1, True), errors
    with service("-m", "feedback_listener", **settings) as (_process, port, _log):
        while get(port, "/readyz")[0] != 200:
            pass
        assert run("reconcile", "--listener", f"http://127.0.0.1:{port}", **settings).returncode == 0


def test_topics_create_is_idempotent(kafka: Kafka) -> None:
    """What would be done is shown, then done, then nothing is left to do."""
    settings = {
        "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "STREAMGAUGE_TOPIC_PREFIX": "idempotent",
    }
    assert "would change idempotent.input: create" in run("topics", "create", "--dry-run", **settings).stdout
    assert "changed idempotent.input: create" in run("topics", "create", **settings).stdout
    assert run("topics", "create", **settings).stdout == "nothing to change\n"
    more = run("topics", "create", "--replication-factor", "3", **settings).stdout.splitlines()
    assert more[0].startswith("--replication-factor 3 changes nothing of 6 topics that exist: idempotent.audit has 1, ")
    assert more[1:] == ["nothing to change"]
