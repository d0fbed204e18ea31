"""Replicas at their URLs, as far as they answer: what they serve, and what is said of those that do not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import generate_latest

from dashboards.metrics_table import listener_registry
from streamgauge.commands.top import looking
from streamgauge.commands.top.looking import Looks
from streamgauge.commands.top.picture import Known
from tests.cluster import until
from tests.unit.test_top_flow import page

LISTENER = generate_latest(listener_registry()).decode()


class Page:
    """Of one replica; what it serves changes."""

    def __init__(self, text: str) -> None:
        self.text, self.url = text, ""

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Page"]:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(text=self.text)

        app = web.Application()
        app.router.add_get("/metrics", answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def test_what_replicas_serve_is_known() -> None:
    """A worker and a listener, and one process that is both, as in the demo; with a scheme or without."""
    async with Page(page([0.1])).served() as worker, Page(page([0.1], name="b") + LISTENER).served() as both:
        known = Known("results")
        looks = Looks(known, [worker.url.removeprefix("http://"), both.url], [f"{both.url}/"])
        await looks.look()
        assert sorted(one.name for one in known.workers.values()) == ["a", "b"]
        assert len(known.listeners) == 1
        assert known.problems == {}
        assert known.between_looks is not None
        assert known.between_looks.last_s == {}
        worker.text = page([0.1, 0.1, 0.1])
        await looks.look()
        assert [*known.between_looks.last_s] == ["a", "b"]
        assert known.between_looks.window(known.between_looks.last_s["a"] + 1, "a").records == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "not a worker"), (LISTENER, "not a worker"), ("<html>", "no metrics: "), ("a nan\n{", "no metrics")],
)
async def test_who_is_no_worker_any_more_is_forgotten(text: str, why: str) -> None:
    """Its numbers too, and why is said; when it is well again, nothing is."""
    async with Page(page([0.1])).served() as worker:
        known = Known("results")
        looks = Looks(known, [worker.url], [])
        await looks.look()
        worker.text = text
        await looks.look()
        assert known.problems[f"worker {worker.url}"].startswith(why)
        assert (known.workers, known.between_looks) == ({}, None)
        worker.text = page([0.1])
        await looks.look()
        assert [*known.workers] == [worker.url]
        assert known.problems == {}


async def test_who_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port, a silent one, another service, and what is no URL at all."""
    monkeypatch.setattr(looking, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = [sock.getsockname()[1] for sock in (silent, closed)]
        closed.close()
        async with Page("").served() as other:
            known = Known("results")
            urls = [*(f"http://127.0.0.1:{port}" for port in ports), f"{other.url}/x", "http://[", ""]
            await Looks(known, [], urls).look()
    assert known.listeners == {}
    assert [known.problems[f"listener {url}"] for url in urls[:3]] == [
        "no listener answers: silent for 0.2 s",
        "no listener answers: Connection refused",
        "no listener answers: status 404",
    ]
    assert len(known.problems) == 5


async def test_looking_goes_on_until_cancelled() -> None:
    """Nothing is left behind."""
    async with Page(page([0.1])).served() as worker:
        known = Known("results")
        running = asyncio.create_task(Looks(known, [worker.url], []).run())
        await until(lambda: bool(known.workers))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
