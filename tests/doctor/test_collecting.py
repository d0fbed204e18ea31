"""The small parts of collecting: clocks, filesystems, limits, scrapes, and what strangers answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from streamgauge.commands.doctor.collecting import part
from streamgauge.commands.doctor.http_collecting import (
    ask_service,
    clock_skew_s,
    samples_of,
    session,
)
from streamgauge.commands.doctor.kafka_collecting import _member
from streamgauge.commands.doctor.machine_collecting import filesystem, memory_bytes
from streamgauge.commands.doctor.picture import Member, Unseen
from streamgauge.commands.doctor.prometheus_collecting import ask_prometheus

NOON_S = 1_767_268_800.0
"""2026-01-01, 12:00 UTC."""


@pytest.mark.parametrize(
    ("date", "expected_s"),
    [
        ("Thu, 01 Jan 2026 12:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:01 GMT", 0.0),
        ("Thu, 01 Jan 2026 11:59:59 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 59.0),
        ("Thu, 01 Jan 2026 11:59:00 GMT", -59.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_clock_differs_by_what_whole_seconds_prove(date: str | None, expected_s: float | None) -> None:
    """Asked at noon, answered a second later."""
    assert clock_skew_s(date, NOON_S, NOON_S + 1) == expected_s


def test_the_nearest_mount_tells_the_filesystem(tmp_path: Path) -> None:
    """Of two at one point the later one; names with spaces too; none where there is no list."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw\nnas:/a /var/lib nfs4 rw\ntmp /var/lib/x\\040y tmpfs rw\n/d /srv xfs\n/e /srv btrfs\n"
    )
    for folder, expected in (("/home", "ext4"), ("/var/lib/a/b", "nfs4"), ("/var/lib/x y", "tmpfs"), ("/srv", "btrfs")):
        assert filesystem(Path(folder), mounts) == expected
    assert filesystem(Path("/"), tmp_path / "none") == ""


def test_a_containers_memory_is_its_limit(tmp_path: Path) -> None:
    """If that is less than the machine's."""
    limit, physical = tmp_path / "memory.max", memory_bytes(tmp_path / "none")
    for text, expected in (("max", physical), ("1048576", 2**20), (str(2**60), physical)):
        limit.write_text(f"{text}\n")
        assert memory_bytes(limit) == expected


def test_what_is_no_scrape_has_no_samples() -> None:
    """A page, or half a line."""
    assert samples_of("<html>hello</html>") == ()
    assert samples_of("a{b=") == ()
    [sample] = samples_of('a{b="c"} 2\n')
    assert (sample.name, sample.labels, sample.value) == ("a", {"b": "c"}, 2)


def test_metadata_of_strangers_is_read_with_care() -> None:
    """A member that tells nothing may be a worker in a rebalance; one that tells nonsense is none."""
    assert _member("id", "a", "/127.0.0.1", b"", b"") == Member("a", None)
    assert _member("id", "a", "/127.0.0.1", b"\x00\x01\xff\xff", b"") == Member("a", frozenset())
    told = b"\x00\x03" + b"\x00\x00\x00\x01\x00\x01x" + b"\xff\xff\xff\xff" + b"more of later versions"
    assert _member("id", "a", "/127.0.0.1", told, b"") == Member("a", frozenset({"x"}))


@asynccontextmanager
async def answering(body: Any) -> AsyncIterator[str]:
    """A server that answers everything so: JSON, or text."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=body) if isinstance(body, str) else web.json_response(body)

    server = web.Server(answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("hello", "answers otherwise than Prometheus does"),
        ({"status": "error", "error": "no such path"}, "no such path"),
        ({"status": "success", "data": {}}, "answers otherwise than Prometheus does"),
        ({"status": "success", "data": [1]}, "answers otherwise than Prometheus does"),
        ([1], "answers otherwise than Prometheus does"),
    ],
)
async def test_who_is_not_prometheus_is_not_seen(body: Any, because: str) -> None:
    """Whatever it answers."""
    async with answering(body) as url, session() as http:
        found = await part(ask_prometheus(http, url), url)
    assert isinstance(found, Unseen)
    assert because in found.because


async def test_a_service_is_known_by_what_it_shows() -> None:
    """Nobody, somebody else, the other service, and the one that is asked for."""
    async with answering("streamgauge_worker_ready 1\n") as url, session() as http:
        worker, listener = await ask_service(http, "worker", url), await ask_service(http, "listener", url)
        assert await ask_service(http, "worker", "http://127.0.0.1:1") is None
    assert worker
    assert worker.samples
    assert worker.skew_s == 0
    assert listener
    assert listener.samples is None


async def test_an_error_of_http_is_a_reason() -> None:
    """And ends nothing."""

    async def fail() -> int:
        raise aiohttp.ServerDisconnectedError

    assert await part(fail(), "somebody") == Unseen("somebody: Server disconnected")
