"""Logs and the HTTP side of a service: `/metrics`, `/livez`, `/readyz`."""

import logging
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TextIO

import structlog
from aiohttp import web
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Info, disable_created_metrics
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

import streamgauge
from streamgauge.errors import StreamgaugeError
from streamgauge.lifecycle import CLOCK
from streamgauge.settings import LogSettings

log = structlog.get_logger(__name__)

OURS = ("streamgauge", "worker", "producer", "feedback_listener")
REPEATED_AFTER_S = 60.0
MAX_REMEMBERED = 1000

Check = Callable[[], str | None]
"""A health check: None when all is well, else what is not."""


def set_up_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """One event a line on standard error: readable on a terminal, JSON elsewhere.

    Libraries' logs go the same way, from warnings up only: their debug lines would hold users' texts.
    """
    stream = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(_worth_reading)
    handler.addFilter(Repetitions())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in OURS:
        logging.getLogger(package).setLevel(settings.level.upper())


def _worth_reading(record: logging.LogRecord) -> bool:
    """Leaves out what is normal for Kafka's client.

    A broker that has just started answers a group's first request with GroupCoordinatorNotAvailable. And a fenced
    producer leaves failed futures behind, which asyncio reports when they are collected.
    """
    message = record.getMessage()
    left_behind = record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], KafkaError)
    return not (
        left_behind or (record.name.startswith("aiokafka.consumer") and "GroupCoordinatorNotAvailable" in message)
    )


class Repetitions(logging.Filter):
    """Lets what a library says again and again through once a minute, with how often it was said since.

    While a broker is away, Kafka's client says some twenty lines a second.
    """

    def __init__(self, monotonic_s: Callable[[], float] = CLOCK.monotonic_s) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        """By logger and message: when it was let through, and how often it came since."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in OURS:
            return True
        message, now_s = record.getMessage(), self._monotonic_s()
        told_s, times = self._told.get((record.name, message), (-math.inf, 0))
        if now_s - told_s < REPEATED_AFTER_S:
            self._told[record.name, message] = told_s, times + 1
            return False
        if len(self._told) >= MAX_REMEMBERED:
            self._told.clear()
        self._told[record.name, message] = now_s, 0
        if times:
            record.msg, record.args = f"{message} ({times} times more since this was last logged)", ()
        return True


def service_registry() -> CollectorRegistry:
    """A registry that already tells of the process: memory, CPU, garbage collector, version."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nothing here reads
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Info("streamgauge_build", "Version of Streamgauge.", registry=registry).info({"version": streamgauge.__version__})
    return registry


@asynccontextmanager
async def serve_http(
    host: str, port: int, registry: CollectorRegistry, *, live: Check, ready: Check
) -> AsyncIterator[int]:
    """Serve metrics and health checks; yields the port. Raises StreamgaugeError when the port is taken."""
    app = web.Application()
    app.router.add_get("/metrics", make_aiohttp_handler(registry))
    app.router.add_get("/livez", _probe(live))
    app.router.add_get("/readyz", _probe(ready))
    app.on_response_prepare.append(_without_versions)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise StreamgaugeError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}; stop what holds the port, or choose another"
            ) from error
        bound: int = runner.addresses[0][1]
        log.info("http.serving", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


async def _without_versions(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "streamgauge"


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request) -> web.StreamResponse:
        problem = check()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    return answer
