"""The HTTP side of a service, open to whoever reaches its port: `/metrics`, `/livez`, `/readyz`.

A connection is for one request, and all of it takes REQUEST_S at most. Connections are few, so that descriptors are
left for Kafka and files. Where another would be too many, the oldest has to go: a probe sends its request at once, so
it is answered beside any number of others that send theirs slowly, or read their answer slowly.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamgauge.errors import StreamgaugeError

log = structlog.get_logger(__name__)

REQUEST_S = 10.0
"""From the connection to the last byte of the answer; what Prometheus waits by default."""
MAX_ASKING = 48
"""Connections whose request has not come yet."""
MAX_ANSWERING = 16
"""Connections whose answer is being made or sent; a listener's may be of some megabytes."""
ACCEPTED_AT_ONCE = 8
"""In a turn of the event loop. A request that comes with its connection is answered four turns later; MAX_ASKING allows
for these, so that others do not take its place before."""
QUEUE = 1024
"""Connections that the kernel keeps until they are accepted."""
SHUTDOWN_S = 1.0
LOOK_EVERY_S = 1.0
TOLD_AFTER_S = 5.0
"""A rebalance makes a replica unready for a moment; that is no news."""

Check = Callable[[], str | None]
"""A health check: None when all is well, else what is not."""


class Connection(web.RequestHandler):
    """What aiohttp makes of a connection; a request that is none of HTTP's is no fault of ours."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        log.debug("http.malformed", remote=request.remote, reason=type(exc).__name__)
        return _response(status, "malformed request")


class Open(NamedTuple):
    """A connection, and what ends it when its time is over."""

    transport: asyncio.Transport
    end: asyncio.TimerHandle

    def abort(self) -> None:
        """End it without waiting for the other side."""
        self.end.cancel()
        self.transport.abort()


class Server(web.Server):
    """aiohttp's, with bounds on connections and on their time."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        # What nobody waits for any more is not made.
        super().__init__(self._answered, handler_cancellation=True)
        self._answer = answer
        self._asking: dict[web.RequestHandler, Open] = {}
        self._answering: dict[web.RequestHandler, Open] = {}

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), keepalive_timeout=0)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        end = asyncio.get_running_loop().call_later(REQUEST_S, transport.abort)
        _enter(self._asking, MAX_ASKING, handler, Open(transport, end))

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        for connections in (self._asking, self._answering):
            if gone := connections.pop(handler, None):
                gone.end.cancel()

    def abort(self) -> None:
        """End all connections."""
        for connection in (*self._asking.values(), *self._answering.values()):
            connection.abort()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        if connection := self._asking.pop(request.protocol, None):
            _enter(self._answering, MAX_ANSWERING, request.protocol, connection)
        response = await self._answer(request)
        response.force_close()
        return response


def _enter(
    connections: dict[web.RequestHandler, Open], most: int, handler: web.RequestHandler, connection: Open
) -> None:
    if len(connections) >= most:
        connections.pop(next(iter(connections))).abort()
    connections[handler] = connection


class Families(NamedTuple):
    """Metrics that have been collected, as an encoder takes them."""

    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


class Scrapes:
    """The text of a registry, made in a thread of its own, one at a time; who waits for the same one shares it."""

    def __init__(self, registry: CollectorRegistry, *, in_thread: bool) -> None:
        """`in_thread`: the metrics may be read in any thread. Otherwise only their text is made in the other one."""
        self._registry = registry
        self._in_thread = in_thread
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._turn = asyncio.Lock()
        self._began_s = 0.0
        self._last: tuple[object, bytes] = None, b""
        """When the last text was begun, for what, and the text."""

    async def text(self, accept: str, names: Sequence[str]) -> tuple[bytes, str]:
        """The metrics of these names, or all, as of now or later, and their content type."""
        encode, content_type = choose_encoder(accept)
        wanted, asked_s = (content_type, tuple(names)), asyncio.get_running_loop().time()
        async with self._turn:
            if self._last[0] != wanted or self._began_s < asked_s:
                began_s = asyncio.get_running_loop().time()
                text = await self._encoded(encode, names)
                self._began_s, self._last = began_s, (wanted, text)
            return self._last[1], content_type

    async def _encoded(self, encode: Callable[[Collector], bytes], names: Sequence[str]) -> bytes:
        source: Collector = self._registry.restricted_registry(names) if names else self._registry
        if not self._in_thread:
            source = Families(list(source.collect()))
        return await asyncio.get_running_loop().run_in_executor(self._thread, encode, source)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


@contextmanager
def named_port(what: str, host: str, port: int, otherwise: str) -> Iterator[None]:
    """Inside, `what` comes to listen. Raises StreamgaugeError if it cannot; `otherwise`: how another port is chosen."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = f"another program has this port; {otherwise}"
        raise StreamgaugeError(f"cannot serve {what} on {host}:{port}: {why}") from error


async def check_port(what: str, host: str, port: int, otherwise: str) -> None:
    """Raises what `named_port` would now, for whoever has much to start before it."""
    with named_port(what, host, port, otherwise):
        (await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)).close()


@asynccontextmanager
async def serve_http(
    host: str,
    port: int,
    registry: CollectorRegistry,
    *,
    live: Check,
    ready: Check,
    in_thread: bool = False,
    otherwise: str = "--http-port",
) -> AsyncIterator[int]:
    """Serve metrics and health checks; yields the port. Raises StreamgaugeError when the port is taken, with
    `otherwise`: how another one is chosen.

    `in_thread`: the registry's metrics may be collected in another thread than the event loop's.
    """
    scrapes = Scrapes(registry, in_thread=in_thread)
    checks = {"/livez": live, "/readyz": ready}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path not in {"/metrics", *checks}:
            return _response(404, "not found")
        if request.method not in {"GET", "HEAD"}:
            return _response(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        if check := checks.get(request.path):
            problem = check()
            return _response(503 if problem else 200, problem or "ok")
        accept = ",".join(request.headers.getall("Accept", ()))
        text, content_type = await scrapes.text(accept, request.query.getall("name[]", ()))
        response = _response(200, text, {"Content-Type": content_type})
        response.enable_compression()
        return response

    server = Server(answer)
    with named_port("metrics", host, port, otherwise):
        listening = await asyncio.get_running_loop().create_server(server, host, port, backlog=ACCEPTED_AT_ONCE)
    telling = asyncio.create_task(_tell_readiness(live, ready), name="readiness")
    try:
        _lengthen_queues(listening.sockets)
        bound: int = listening.sockets[0].getsockname()[1]
        log.info("http.serving", host=host, port=bound)
        yield bound
    finally:
        telling.cancel()
        listening.close()
        server.pre_shutdown()
        await server.shutdown(SHUTDOWN_S)
        server.abort()
        scrapes.close()


async def _tell_readiness(live: Check, ready: Check) -> None:
    """Log when a service that was ready has not been for a while, and when it is again, until cancelled."""
    now_s = asyncio.get_running_loop().time
    well_s: float | None = None
    is_told = False
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        problem = ready()
        if problem is None:
            if is_told and well_s is not None:
                log.warning("service.ready_again", after_s=round(now_s() - well_s))
            well_s, is_told = now_s(), False
        elif not is_told and well_s is not None and now_s() - well_s >= TOLD_AFTER_S:
            next_step = "a new process is asked for" if live() else "goes on by itself when this has passed"
            log.warning("service.not_ready", problem=problem, next=next_step)
            is_told = True


def _lengthen_queues(sockets: Iterable[socket.socket]) -> None:
    """asyncio lets as many connections wait as it accepts at once. A connection that the kernel turns away for that
    comes again only after a second.
    """
    for listening in sockets:
        with socket.socket(fileno=os.dup(listening.fileno())) as same:
            same.listen(QUEUE)


def _response(status: int, body: bytes | str, headers: dict[str, str] | None = None) -> web.Response:
    """With no word of which versions serve it."""
    headers = {"Server": "streamgauge", "Content-Type": "text/plain; charset=utf-8"} | (headers or {})
    return web.Response(status=status, body=body.encode() if isinstance(body, str) else body, headers=headers)
