"""Controls: for each guarantee a wrong variant of the worker, which the script that proves the guarantee must catch."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults import scripts
from tests.faults.conftest import FaultyKafka

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the state of processes from /proc"),
]


class Control(NamedTuple):
    """A script, the variant that is wrong in it, and what the oracle must say of that one."""

    play: scripts.Play
    wrong: dict[str, Any]
    kind: str


CONTROLS = {
    "one id per worker": Control(scripts.zombie, {"one_id_per_worker": True}, "doubled"),
    "offset before fence": Control(scripts.commit_before_the_fence, {"control": "offset_before_fence"}, "doubled"),
    "highest finished": Control(scripts.kill_beside_a_gap, {"control": "highest_finished"}, "lost"),
    "unawaited send": Control(scripts.delivery_fails, {"control": "unawaited_send"}, "lost"),
    "no epoch": Control(scripts.late_outcome, {"control": "no_epoch"}, "doubled"),
    "audit outside": Control(scripts.kill_after_the_commit, {"control": "audit_outside"}, "audit"),
    "no sequencer": Control(scripts.overtaken, {"control": "no_sequencer"}, "out_of_order"),
}


@pytest.mark.parametrize("name", CONTROLS)
async def test_a_wrong_variant_is_caught(faulty_kafka: FaultyKafka, tmp_path: Path, name: str) -> None:
    """The same script finds nothing wrong with the worker, and finds the variant's fault."""
    control = CONTROLS[name]
    for part in ("right", "wrong"):
        (tmp_path / part).mkdir()
    right, wrong = await asyncio.gather(
        scripts.run(control.play, faulty_kafka.bootstrap_servers, tmp_path / "right", {}),
        scripts.run(control.play, faulty_kafka.bootstrap_servers, tmp_path / "wrong", control.wrong),
    )
    found = {kind: len(found) for kind, found in vars(wrong).items() if found}
    print(f"{name}: {found}")
    assert right.is_clean, right
    assert control.kind in found, f"{name} was not caught: {found or 'clean'}"


@pytest.mark.parametrize("step", ["begun", "sent", "offsets"])
async def test_a_zombie_changes_nothing(faulty_kafka: FaultyKafka, tmp_path: Path, step: str) -> None:
    """Whatever it had begun, a worker that was given up cannot make visible: it is fenced."""
    play = partial(scripts.zombie, step=step)
    verdict = await scripts.run(play, faulty_kafka.bootstrap_servers, tmp_path, {})
    assert verdict.is_clean, verdict
