"""What is logged: each event of ours, and of libraries what is new."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from streamgauge.http import serve_http
from streamgauge.settings import LogSettings
from streamgauge.telemetry import set_up_logging


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_follows_from_a_lost_connection_is_not_said_again() -> None:
    """Why there is none is a line of ours; that nothing could be sent without it needs no other."""
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream)
    why = "Unable connect to node with id 1: [Errno 111] Connect call failed ('127.0.0.1', 9092)"
    logging.getLogger("aiokafka").error(why)
    logging.getLogger("aiokafka").error("Unable to update metadata from [1]")
    not_ready = "NodeNotReadyError: Attempt to send a request to node which is not ready (node id 1)."
    logging.getLogger("aiokafka.consumer.fetcher").error("Failed fetch messages from 1: %s", not_ready)
    logging.getLogger("aiokafka.consumer.group_coordinator").error("Heartbeat send request failed: %s.", not_ready)
    logging.getLogger("asyncio").error(
        "Exception in callback Sender._fail_all(<Task>)", exc_info=AttributeError("done")
    )
    logging.getLogger("aiokafka").error("Topic %s is not authorized for this client", "t")
    assert [line["event"] for line in lines(stream)] == ["Topic t is not authorized for this client"]


@pytest.mark.parametrize(("level", "written"), [("info", 1), ("debug", 100)])
def test_at_debug_each_line_is_written(level: Literal["info", "debug"], written: int) -> None:
    """Otherwise what is said of a hundred partitions is one line, and another when it is due or the process ends."""
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json", level=level), stream)
    for partition in range(100):
        structlog.get_logger("worker.partitions").warning("partition.reopening", partition=partition, error="x")
    assert len(lines(stream)) == written
    [handler] = logging.getLogger().handlers
    handler.close()
    if level == "info":
        assert {"event": "partition.reopening", "times": 99, "partitions": "1-99"}.items() <= lines(stream)[-1].items()


async def test_probes_and_metrics_tell_no_versions() -> None:
    """Nor does an address that there is not."""
    async with (
        serve_http("127.0.0.1", 0, CollectorRegistry(), live=lambda: None, ready=lambda: "not yet") as port,
        ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        for path, status in {"/metrics": 200, "/livez": 200, "/readyz": 503, "/": 404}.items():
            async with http.get(path) as response:
                assert (response.status, response.headers["Server"]) == (status, "streamgauge")
