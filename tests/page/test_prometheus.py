"""The charts from a real Prometheus with the project's rules, and what is made of what it answers."""

import asyncio
import re
import time
from pathlib import Path

import pytest

from streamgauge.commands.page.history import Accuracy, Point, Rate
from streamgauge.commands.page.prometheus import history, points, queries
from streamgauge.errors import StreamgaugeError
from tests.cluster import ROOT, Kafka, Stream
from tests.end_to_end.test_commands import environment_of, service
from tests.page.scored import scored_and_labelled
from tests.stack.running import PROMETHEUS, free_port, process, prometheus_config, set_targets


@pytest.mark.parametrize("window", ["5m", "all"])
def test_what_is_asked_for_is_recorded(window: str) -> None:
    """By one of the rules."""
    rules = "".join(path.read_text() for path in (ROOT / "dashboards" / "rules").glob("*.yml"))
    for query in queries(window).values():
        for name in re.findall(r"streamgauge:[\w:]+", query):
            assert f"record: {name}\n" in rules, name


def test_the_busiest_model_is_shown() -> None:
    """Of two; what is not a number is not there."""

    def one(value: float | str, **labels: str) -> dict[str, object]:
        return {"metric": labels, "values": [[10, str(value)]]}

    found = points(
        {
            "predictions": [one(5, model="old"), one(7, model="new")],
            "every": [one(0.5, model="old"), one(0.9, model="new")],
            "every_low": [one(0.8, model="new")],
            "every_high": [one(0.95, model="new")],
            "every_n": [one(40, model="new")],
            "texts_per_s": [one(3.5)],
            "lag": [one("NaN")],
        }
    )
    assert found == [Point(10.0, Accuracy("new", None, Rate(0.9, 0.8, 0.95, 40)), texts_per_s=3.5)]


async def test_a_prometheus_that_does_not_answer_is_named() -> None:
    with pytest.raises(StreamgaugeError, match=r"Prometheus at http://127\.0\.0\.1:1 gives no numbers"):
        await history("http://127.0.0.1:1", "1h", 900, time.time())


@pytest.mark.timeout(180)
@pytest.mark.skipif(not PROMETHEUS, reason="NOT PROVEN: no prometheus here: apt-get install prometheus")
async def test_the_charts_are_those_of_prometheus(kafka: Kafka, tmp_path: Path) -> None:
    """Accuracy of the audit and of all labels, with intervals and counts; latency; lag."""
    stream = await Stream.create(kafka.bootstrap_servers)
    port = free_port()
    assert PROMETHEUS
    command = [
        PROMETHEUS,
        f"--config.file={prometheus_config(tmp_path, free_port(), port)}",
        f"--storage.tsdb.path={tmp_path / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        service("-m", "streamgauge", "listen", **environment_of(stream)) as (_process, listener, _log),
        service("-m", "worker", **environment_of(stream), STREAMGAUGE_WORKER_AUDIT_SHARE="1") as (_worker, worker, _),
        process(command, tmp_path / "prometheus.log", r"(Server is ready)"),
    ):
        set_targets(tmp_path, "streamgauge-listener", [listener])
        set_targets(tmp_path, "streamgauge-worker", [worker])
        await scored_and_labelled(stream, 45, 5)
        for window in ("1h", "all"):
            found = await latest(port, window)
            assert found.lag == 0
            assert found.accuracy
            assert found.accuracy.every == pytest.approx(Rate(0.9, 0.786, 0.957, 50), abs=1e-3)
            audit = found.accuracy.audit
            assert audit
            assert audit.n == 50
            assert audit.value == pytest.approx(0.9)
            assert audit.low == pytest.approx(0.786, abs=1e-3)  # Wilson's: no minute has matured


async def latest(port: int, window: str) -> Point:
    """The last point, once all 50 labels have been counted and the worker is known."""
    while True:
        for point in await history(f"http://127.0.0.1:{port}", window, 60, time.time()):
            of = point.accuracy
            if of and of.audit and of.every and of.every.n == 50 and point.lag is not None:
                return point
        await asyncio.sleep(0.5)
