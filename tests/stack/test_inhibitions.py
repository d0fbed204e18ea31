"""What an alert silences, asked of a real Alertmanager with the stack's own configuration."""

from pathlib import Path

import aiohttp
import pytest

from tests.stack.running import ALERTMANAGER, alertmanager_config, free_port, process

G, H = {"group": "g", "topic": "g.input"}, {"group": "h", "topic": "h.input"}
LISTENER_DOWN = {"alertname": "StreamgaugeTargetDown", "job": "streamgauge-listener", "instance": "c"}
WORKER_DOWN = {"alertname": "StreamgaugeTargetDown", "job": "streamgauge-worker", "instance": "a"}
NO_FEEDBACK = {"alertname": "StreamgaugeNoFeedback"}


def of(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": f"Streamgauge{name}", **labels}


CASES = {
    "no worker at all: what was theirs; never a listener's": (
        [of("NoWorker"), WORKER_DOWN, of("PartitionsUnowned", **G), of("LagOld", **H), LISTENER_DOWN, NO_FEEDBACK],
        [WORKER_DOWN, of("PartitionsUnowned", **G), of("LagOld", **H)],
    ),
    "none of one group: nothing of another": (
        [of("NoWorker", **H), of("LagOld", **G), of("LagOld", **H), of("FewerWorkers", **H), WORKER_DOWN],
        [of("LagOld", **H), of("FewerWorkers", **H)],
    ),
    "no worker of a group is ready": (
        [of("NoWorkerReady", **G), of("WorkerNotReady", instance="a", **G), of("WorkerNotReady", instance="b", **H)],
        [of("WorkerNotReady", instance="a", **G)],
    ),
    "nothing moves in a group": (
        [of("NothingMoves", **G), of("LagOld", **G), of("LagGrowing", **H)],
        [of("LagOld", **G)],
    ),
    "no listener at all": (
        [of("AccuracyUnknown"), of("ShardUnserved", topic="t"), of("ListenerBehind", instance="c"), LISTENER_DOWN],
        [of("ShardUnserved", topic="t"), of("ListenerBehind", instance="c")],
    ),
    "none of one topic": (
        [of("AccuracyUnknown", topic="t"), of("ShardUnserved", topic="t"), of("ShardUnserved", topic="u"), NO_FEEDBACK],
        [of("ShardUnserved", topic="t")],
    ),
}
"""What fires, and what of it is silenced."""


@pytest.mark.skipif(
    not ALERTMANAGER, reason="NOT PROVEN: no alertmanager here: apt-get install prometheus-alertmanager"
)
@pytest.mark.parametrize("case", CASES)
async def test_a_cause_silences_what_follows_from_it_and_nothing_else(case: str, tmp_path: Path) -> None:
    """Each case: these fire at one time, and of these nobody is told."""
    firing, expected = CASES[case]
    port = free_port()
    command = [
        str(ALERTMANAGER),
        f"--config.file={alertmanager_config(tmp_path, free_port(), free_port())}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with process(command, tmp_path / "alertmanager.log", r"(Listening on)"):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", raise_for_status=True) as session:
            await session.post("/api/v2/alerts", json=[{"labels": labels} for labels in firing])
            async with session.get("/api/v2/alerts") as response:
                alerts = await response.json()
    assert len(alerts) == len(firing)
    silenced = [alert["labels"] for alert in alerts if alert["status"]["inhibitedBy"]]
    assert {*map(_key, silenced)} == {*map(_key, expected)}


def _key(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())
