"""Every step of the protocol, and every way in which a worker or its network can fail there."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import FaultyKafka
from tests.faults.scenario import CUTS, Fault, Scene

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the state of processes from /proc"),
]

OPEN = None
"""At this step a transaction is open, so a fault must leave one that was aborted or fenced."""
STEPS = {
    "fetched": "nothing has been scored, let alone written",
    "scoring": "the batch is in the model; what is written meanwhile is complete",
    "begun": OPEN,
    "sent": OPEN,
    "offsets": OPEN,
    "committing": OPEN,
    "commit_sent": "the request is on its way: the broker commits, whether or not the worker learns of it",
    "committed": "that transaction is over, the next has not begun",
    "fencing": "who has not fenced has not begun",
    "fenced": "who has not read its offset has not begun",
    "between": "who has not read its offset has not begun",
    "draining": OPEN,
}
"""Each step, and why no transaction need fail there."""
EXCUSED = {
    ("begun", Fault.KILL): "a transaction begins in the client alone: the broker hears of it with the first record",
}
TRANSPARENT = "the client sends again within its timeout, and the transaction commits"


def why_none(step: str, fault: Fault) -> str | None:
    """Why this run need not show an aborted or fenced transaction; None if it tested nothing without one."""
    return STEPS[step] or EXCUSED.get((step, fault)) or (TRANSPARENT if fault is Fault.BLIP else None)


@pytest.mark.parametrize("step", STEPS)
async def test_a_fault_changes_nothing(faulty_kafka: FaultyKafka, tmp_path: Path, step: str) -> None:
    """Whatever befalls a worker at this step, each record has one right outcome, in order, and all recover."""
    lanes = iter(faulty_kafka.lanes)
    for fault in Fault:
        (tmp_path / fault.name).mkdir()
    scenes = [
        Scene(faulty_kafka, next(lanes) if fault in CUTS else None, step, fault, tmp_path / fault.name)
        for fault in Fault
    ]
    results = await asyncio.gather(*(scene.play() for scene in scenes), return_exceptions=True)
    problems: list[str] = []
    for scene, result in zip(scenes, results, strict=True):
        print(f"{step:12} {scene.fault.name:6} {scene.seconds:5.1f} s failed={scene.failed} hidden={scene.hidden}")
        if isinstance(result, BaseException):
            problems.append(f"{scene.fault.name}: {result!r}")
        elif not scene.verdict.is_clean:
            problems.append(f"{scene.fault.name}: {scene.verdict}")
        elif why_none(step, scene.fault) is None and not _failed(scene):
            problems.append(f"{scene.fault.name}: no transaction failed: this run tested nothing")
    assert not problems, "\n".join(problems)


def _failed(scene: Scene) -> int:
    """Of a killed worker only what it wrote remains."""
    return scene.hidden if scene.fault is Fault.KILL else scene.failed + scene.hidden
