"""The HTTP side of a service against those who are slow, many, or do not speak HTTP: over real sockets."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from structlog.testing import LogCapture

from streamgauge import http
from streamgauge.http import MAX_ANSWERING, MAX_ASKING, serve_http
from tests.cluster import until

HALF = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-More: "
WHOLE = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
LIMITED = """
import asyncio, resource, sys
from prometheus_client import CollectorRegistry, Gauge
from streamgauge.http import serve_http
from streamgauge.settings import LogSettings
from streamgauge.telemetry import set_up_logging

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
set_up_logging(LogSettings(format="json"))
registry = CollectorRegistry()
gauge = Gauge("many", "Some megabytes.", ["name"], registry=registry)
for number in range(20_000):
    gauge.labels(f"{number:0100}").set(number)

async def serve():
    async with serve_http("127.0.0.1", 0, registry, live=lambda: None, ready=lambda: None) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(serve())
"""
"""A service that may have 300 open files, whose scrape is of two megabytes."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int, count: int, request: bytes) -> AsyncIterator[list[Connection]]:
    """Connections that send this, and read nothing unless they are told to."""
    connections: list[Connection] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            connections.append((reader, writer))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request)
        yield connections
    finally:
        for _reader, writer in connections:
            writer.transport.abort()


async def exchange(port: int, request: bytes) -> bytes:
    """All that is answered until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


def serving(registry: Collector | None = None, *, in_thread: bool = False):  # type: ignore[no-untyped-def]
    """A healthy service with these metrics."""
    metrics = CollectorRegistry()
    if registry:
        metrics.register(registry)
    return serve_http("127.0.0.1", 0, metrics, live=lambda: None, ready=lambda: None, in_thread=in_thread)


@pytest.mark.parametrize(("count", "request_"), [(600, HALF), (400, WHOLE % b"/metrics")])
async def test_probes_are_answered_beside_many_others(count: int, request_: bytes) -> None:
    """Beside half-sent requests, and scrapes that nobody reads; more than the process may have files. Nothing is logged
    of them.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LIMITED),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    port = int(await process.stdout.readline())
    async with connected(port, count, request_):
        for path in (b"/livez", b"/readyz"):
            assert (await exchange(port, WHOLE % path)).endswith(b"ok")
        assert b"many{" in await exchange(port, WHOLE % b"/metrics")
    _output, errors = await process.communicate(b"")
    assert [b"http.serving" in line for line in errors.splitlines()] == [True]
    assert process.returncode == 0


async def test_the_oldest_has_to_go() -> None:
    """Of those whose request has not come; and one whose request has come is no victim of these."""
    collecting, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(Collector):
        def collect(self) -> Iterable[Metric]:
            loop.call_soon_threadsafe(collecting.set)
            go_on.wait(timeout=30)
            yield GaugeMetricFamily("slow", "Late.", 1)

    async with serving(Slow(), in_thread=True) as port, asyncio.TaskGroup() as tasks:
        scrape = tasks.create_task(exchange(port, WHOLE % b"/metrics"))
        await collecting.wait()
        async with connected(port, MAX_ASKING + 1, HALF) as connections:
            reader, writer = connections[0]
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            probe = await exchange(port, WHOLE % b"/livez")
            go_on.set()
            assert probe.endswith(b"ok")
            assert b"slow 1.0" in await scrape


@pytest.mark.parametrize(
    "request_",
    [b"", HALF, b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n.", WHOLE % b"/metrics"],
    ids=["nothing", "half a header", "half a body", "an answer that is not read"],
)
async def test_time_is_bounded(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has not come or gone when the time is over: the connection is ended."""
    monkeypatch.setattr(http, "REQUEST_S", 0.1)
    gone = asyncio.Event()
    lost = http.Server.connection_lost

    def connection_lost(*arguments) -> None:  # type: ignore[no-untyped-def]
        lost(*arguments)
        gone.set()

    monkeypatch.setattr(http.Server, "connection_lost", connection_lost)

    class Large(Collector):
        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("large", "x" * 20_000_000, 1)

    async with serving(Large()) as port, connected(port, 1, request_):
        await gone.wait()


async def test_a_connection_is_for_one_request() -> None:
    """Nobody keeps one who does not use it."""
    async with serving() as port:
        answer = await exchange(port, 2 * (WHOLE % b"/livez"))
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"Connection: close" in answer


@pytest.mark.parametrize("request_", [b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nno header\r\n\r\n"])
async def test_what_is_not_http_is_one_line(
    request_: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At debug level; and the answer tells no versions."""
    logs = LogCapture()
    every_level = structlog.make_filtering_bound_logger("debug")
    monkeypatch.setattr(http, "log", structlog.wrap_logger(None, processors=[logs], wrapper_class=every_level))
    async with serving() as port:
        answer = await exchange(port, request_)
    assert b" 400 " in answer
    assert b"Server: streamgauge\r\n" in answer
    [line] = [line for line in logs.entries if line["event"] != "http.serving"]
    assert (line["event"], line["log_level"], line["remote"]) == ("http.malformed", "debug", "127.0.0.1")
    assert caplog.records == []


async def test_a_service_that_is_not_ready_is_told_once_and_so_is_its_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of /readyz. Before it was ready for the first time there is nothing to tell."""
    monkeypatch.setattr(http, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(http, "TOLD_AFTER_S", 0.0)
    logs, problem, looks = LogCapture(), "starting", 0
    monkeypatch.setattr(http, "log", structlog.wrap_logger(None, processors=[logs]))

    def ready() -> str | None:
        nonlocal looks
        looks += 1
        return problem or None

    async def look_again() -> None:
        seen = looks
        await until(lambda: looks >= seen + 3)

    async with serve_http("127.0.0.1", 0, CollectorRegistry(), live=lambda: None, ready=ready):
        for answer in ("starting", "", "no broker", "no leader", "", ""):
            problem = answer
            await look_again()
    told = [line for line in logs.entries if line["event"] != "http.serving"]
    assert [line["event"] for line in told] == ["service.not_ready", "service.ready_again"]
    assert told[0]["problem"] == "no broker"


async def test_scrapes_at_one_time_share_a_text() -> None:
    """Those that come while one is made get the next: so each is of the time of its request or later."""
    made = 0
    collecting, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Counted(Collector):
        def collect(self) -> Iterable[Metric]:
            nonlocal made
            made += 1
            loop.call_soon_threadsafe(collecting.set)
            go_on.wait(timeout=30)
            yield GaugeMetricFamily("made", "Times.", made)

    scrapes = http.Scrapes(registry := CollectorRegistry(), in_thread=True)
    registry.register(Counted())
    made = 0
    collecting.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(scrapes.text("", ()))
        await collecting.wait()
        others = [tasks.create_task(scrapes.text("", ())) for _ in range(MAX_ANSWERING)]
        await asyncio.sleep(0)
        go_on.set()
    scrapes.close()
    assert b"made 1.0" in first.result()[0]
    assert all(b"made 2.0" in other.result()[0] for other in others)


async def test_what_is_asked_for_decides() -> None:
    """Some metrics by their names, other formats, other methods, and what there is not."""

    class Two(Collector):
        def describe(self) -> Iterable[Metric]:
            return self.collect()

        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("one", "", 1)
            yield GaugeMetricFamily("two", "", 2)

    async with serving(Two()) as port, ClientSession(f"http://127.0.0.1:{port}") as client:
        async with client.get("/metrics?name[]=two") as answer:
            text = await answer.text()
            assert "two 2.0" in text
            assert "one" not in text
        async with client.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert (await answer.text()).endswith("# EOF\n")
        for method, path, status in [("POST", "/livez", 405), ("HEAD", "/metrics", 200), ("GET", "/x", 404)]:
            async with client.request(method, path) as answer:
                assert answer.status == status
