"""What is collected from a real worker, a real listener and a real Prometheus; the command as it is typed."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import aiohttp
import pytest
import yaml
from aiokafka import AIOKafkaProducer

from streamgauge.commands.doctor.checks import Report
from streamgauge.commands.doctor.collect import Addresses
from streamgauge.events import Feedback, encode
from tests.cluster import Kafka, Stream
from tests.doctor.real import report_of, setup_of
from tests.end_to_end.test_commands import environment_of, get, run, service
from tests.oracle import Input
from tests.stack.running import (
    PROMETHEUS as PROGRAM,
)
from tests.stack.running import (
    Prometheus,
    free_port,
    process,
    prometheus_config,
    set_targets,
)

TEXTS = 120
pytestmark = pytest.mark.timeout(300)


class Services(NamedTuple):
    """A worker and a listener as processes, which have worked."""

    stream: Stream
    worker: int
    listener: int
    """Their ports."""

    @property
    def addresses(self) -> Addresses:
        return Addresses([f"http://127.0.0.1:{self.worker}"], [f"http://127.0.0.1:{self.listener}"])

    async def label(self, names: dict[str, str]) -> None:
        """Classes by id; returns when the listener has read them."""

        async with AIOKafkaProducer(bootstrap_servers=self.stream.kafka.bootstrap_servers) as producer:
            for message_id, name in names.items():
                await producer.send(
                    self.stream.topics.feedback, encode(Feedback(id=message_id, label=name)), partition=0
                )
        while f'position{{partition="0",topic="{self.stream.topics.feedback}"}} {len(names)}.0' not in self.metrics():
            pass

    def metrics(self) -> str:
        return get(self.listener, "/metrics")[1]


@pytest.fixture
async def services(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Services]:
    """With texts, and no label."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream) | {"STREAMGAUGE_LISTENER_STORE": str(tmp_path / "store.sqlite")}
    await stream.publish([Input(f"text number {number}".encode(), 0) for number in range(TEXTS)])
    with (
        service("-m", "worker", **settings) as (_worker, worker, _log),
        service("-m", "feedback_listener", **settings) as (_listener, listener, _other_log),
    ):
        await stream.read(at_least=TEXTS)
        found = Services(stream, worker, listener)
        while get(listener, "/readyz")[0] != 200:
            pass
        yield found


async def examined(services: Services, folder: Path, prometheus: str | None = None) -> Report:
    stream = services.stream
    setup = setup_of(stream.kafka, stream.topics, stream.group, folder)
    return await report_of(setup, services.addresses._replace(prometheus=prometheus))


async def first_found(services: Services, folder: Path) -> list[str]:
    """As soon as anything is: numbers come a moment after the records."""
    while not (found := names(await examined(services, folder))):
        pass
    return found


def names(report: Report) -> list[str]:
    return [finding.check for finding in report.findings]


def ids(stream: Stream) -> list[str]:
    return [f"{stream.topics.input}-{number % 2}-{number // 2}" for number in range(TEXTS)]


async def test_no_labels_then_strange_ones(services: Services, tmp_path: Path) -> None:
    """Of texts without a label; then of labels that are no class; then all is well."""
    assert await first_found(services, tmp_path) == ["no-labels"]
    await services.label(dict.fromkeys(ids(services.stream)[:40], "1"))
    assert await first_found(services, tmp_path) == ["labels-of-no-class"]


async def test_labels_with_other_ids(services: Services, tmp_path: Path) -> None:
    """They wait for predictions that never come."""
    await services.label({f"order-{number}": "POSITIVE" for number in range(30)})
    assert await first_found(services, tmp_path) == ["labels-unmatched"]


async def test_the_command_says_it_all(services: Services, tmp_path: Path) -> None:
    """Exit code 1 when something is found, 0 when nothing is, 2 when it is used wrongly; texts are never shown."""
    settings = environment_of(services.stream) | {
        "STREAMGAUGE_WORKER_HTTP_PORT": str(services.worker),
        "STREAMGAUGE_LISTENER_HTTP_PORT": str(services.listener),
        "STREAMGAUGE_LISTENER_STORE": str(tmp_path / "doctor.sqlite"),
        "STREAMGAUGE_WORKER_MODEL_SLOTS": "1",
    }
    await first_found(services, tmp_path)
    shown = await asyncio.to_thread(run, "doctor", **settings)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert shown.stdout.startswith(f"no-labels: {TEXTS} predictions of the last 24h, and no label at all\n")
    assert "    mend: streamgauge audit" in shown.stdout
    assert "text number" not in shown.stdout
    await services.label(dict.fromkeys(ids(services.stream)[:40], "POSITIVE"))
    while (done := await asyncio.to_thread(run, "doctor", "--json", **settings)).returncode:
        pass
    report = json.loads(done.stdout)
    assert (report["checks"], report["findings"]) == (40, [])
    assert {each["because"] for each in report["not_made"]} == {"no Prometheus was named: --prometheus URL"}
    wrong = run("doctor", "--prometheus", "localhost:9090", **settings)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "localhost:9090: an address begins with http://" in wrong.stderr


@contextmanager
def stranger() -> Iterator[int]:
    """Somebody else's web server."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


async def test_somebody_elses_port_is_found(kafka: Kafka, tmp_path: Path) -> None:
    """And a port at which nobody is, is none."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with stranger() as port:
        setup = setup_of(stream.kafka, stream.topics, stream.group, tmp_path, http_port=port)
        assert names(await report_of(setup)) == ["ports"]
    setup = setup_of(stream.kafka, stream.topics, stream.group, tmp_path, http_port=free_port())
    report = await report_of(setup, Addresses(prometheus="http://127.0.0.1:1"))
    assert names(report) == []
    assert "http://127.0.0.1:1" in dict(report.not_made)["rules-missing"]


class Change(NamedTuple):
    """How Prometheus is set wrongly, and what is found then."""

    found: str
    section: str
    value: object


CHANGES = [
    Change("rules-missing", "rule_files", []),
    Change("alertmanager-missing", "alerting", {}),
]


@contextmanager
def prometheus_with(folder: Path, config: Path, port: int) -> Iterator[str]:
    command = [
        str(PROGRAM),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(command, folder / "prometheus.log", r"(Server is ready)"):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.skipif(not PROGRAM, reason="needs Prometheus")
async def test_prometheus_is_looked_at(services: Services, tmp_path: Path) -> None:
    """Sound with the project's own configuration; each part that is missing is found alone."""
    await services.label(dict.fromkeys(ids(services.stream)[:40], "POSITIVE"))
    port = free_port()
    sound = prometheus_config(tmp_path, free_port(), port)
    for job, target in (("streamgauge-worker", services.worker), ("streamgauge-listener", services.listener)):
        set_targets(tmp_path, job, [target])
    set_targets(tmp_path, "kminion", [])
    with prometheus_with(tmp_path, sound, port) as url:
        await scraped(url, 'up{job=~"streamgauge.*"} == 1', 2)
        report = await examined(services, tmp_path, url)
        assert (report.findings, report.not_made) == ((), ())
        set_targets(tmp_path, "streamgauge-worker", [])
        await scraped(url, 'up{job="streamgauge-worker"} == 1', 0)
        report = await examined(services, tmp_path, url)
        assert names(report) == ["targets-missing"]
    set_targets(tmp_path, "streamgauge-worker", [services.worker])
    for change in CHANGES:
        shutil.rmtree(tmp_path / "tsdb")
        config = yaml.safe_load(sound.read_text())
        config[change.section] = change.value
        broken = tmp_path / "broken.yml"
        broken.write_text(yaml.safe_dump(config))
        with prometheus_with(tmp_path, broken, port) as url:
            await scraped(url, 'up{job=~"streamgauge.*"} == 1', 2)
            assert names(await examined(services, tmp_path, url)) == [change.found]


async def scraped(url: str, query: str, series: int) -> None:
    """Wait until a query gives so many series."""
    async with aiohttp.ClientSession() as session:
        prometheus = Prometheus(session, url)
        while len(await prometheus.values(query)) != series:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
