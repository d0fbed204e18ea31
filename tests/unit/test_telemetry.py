"""What is logged: each event of ours, and of libraries what is new."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from streamgauge.settings import LogSettings
from streamgauge.telemetry import MAX_REMEMBERED, Repetitions, serve_http, set_up_logging


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_an_outage_does_not_flood_the_log() -> None:
    """What Kafka's client says twenty times a second is one line a minute; of another node it is another line."""
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), stream)
    client = logging.getLogger("aiokafka")
    for node in (1, 2) * 500:
        client.error("Unable connect to node with id %s", node)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "Unable connect to node with id 1",
        "Unable connect to node with id 2",
    ]


def test_repetitions_are_counted() -> None:
    """They are told a minute later; what is ours always passes."""
    now_s = 0.0
    repetitions = Repetitions(lambda: now_s)

    def said(name: str, message: str) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, ("x",), None)
        return record.getMessage() if repetitions.filter(record) else None

    assert [said("aiokafka", "no %s") for _ in range(3)] == ["no x", None, None]
    assert [said("worker.service", "no %s") for _ in range(2)] == ["no x", "no x"]
    now_s = 60.0
    assert said("aiokafka", "no %s") == "no x (2 times more since this was last logged)"
    assert said("aiokafka", "no %s") is None
    now_s = 120.0
    assert said("aiokafka", "no %s") == "no x (1 times more since this was last logged)"


def test_what_never_repeats_is_not_remembered_for_ever() -> None:
    """Memory is bounded."""
    repetitions = Repetitions()
    for number in range(3 * MAX_REMEMBERED):
        assert repetitions.filter(logging.LogRecord("asyncio", logging.ERROR, "", 0, f"task {number}", (), None))
    assert len(repetitions._told) <= MAX_REMEMBERED


async def test_probes_and_metrics_tell_no_versions() -> None:
    """Nor does an address that there is not."""
    async with (
        serve_http("127.0.0.1", 0, CollectorRegistry(), live=lambda: None, ready=lambda: "not yet") as port,
        ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        for path, status in {"/metrics": 200, "/livez": 200, "/readyz": 503, "/": 404}.items():
            async with http.get(path) as response:
                assert (response.status, response.headers["Server"]) == (status, "streamgauge")
