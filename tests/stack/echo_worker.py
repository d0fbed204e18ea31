"""`python -m tests.stack.echo_worker`: the worker as it is served, with the echo model in the place of the real one."""

import asyncio

from streamgauge.http import serve_http
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings, load
from streamgauge.telemetry import service_registry, set_up_logging
from tests.echo import EchoModel
from worker.service import Worker
from worker.settings import WorkerSettings


async def serve(stop: asyncio.Event) -> None:
    settings, registry = load(WorkerSettings), service_registry()
    worker = Worker(load(KafkaSettings), load(TopicSettings), settings, registry, EchoModel())
    async with serve_http("127.0.0.1", 0, registry, live=worker.live, ready=worker.ready):
        await worker.run(stop)


if __name__ == "__main__":
    set_up_logging(LogSettings(format="json"))
    run(serve)
