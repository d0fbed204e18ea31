"""A worker that is frozen inside a transaction, loses its partition, and wakes up."""

import signal
import sys
from pathlib import Path

import pytest

from tests.cluster import Kafka, Stream
from tests.faults.replica import Replica
from tests.oracle import Verdict, generate, judge

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the state of processes from /proc"),
]

PATIENT = {"session_timeout_s": 3, "transaction_timeout_s": 30, "commit_records": 50}
"""The group gives a frozen worker up long before its transaction times out: the zombie wakes inside it."""


async def zombie(kafka: Kafka, log_dir: Path, step: str, *, one_id_per_worker: bool) -> tuple[Verdict, str]:
    """Freeze worker A at `step` of its second transaction, let B take over and finish, wake A, and judge the output."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(2000, seed=11))
    common = {"one_id_per_worker": one_id_per_worker, "settings": PATIENT}
    async with Replica(stream, "a", log_dir, step=step, nth=2, **common) as a:
        await a.frozen()
        async with Replica(stream, "b", log_dir, **common) as b:
            await stream.all_committed(len(inputs))
            a.send(signal.SIGCONT)
            await a.logged("partition.closed")
            inputs |= await stream.publish(generate(200, seed=12))
            await stream.read(at_least=len(inputs))
            for replica in (a, b):
                replica.send(signal.SIGTERM)
            assert [await replica.ended() for replica in (a, b)] == [0, 0]
            return judge(inputs, await stream.read()), a.log


@pytest.mark.parametrize("step", ["begun", "sent", "offsets", "committing"])
async def test_a_zombie_changes_nothing(kafka: Kafka, tmp_path: Path, step: str) -> None:
    """Whatever it had begun, a worker that was given up cannot make visible: it is fenced."""
    verdict, log = await zombie(kafka, tmp_path, step, one_id_per_worker=False)
    assert verdict.is_clean, verdict
    assert "ProducerFenced" in log, "the zombie was never fenced: this run tested nothing"


async def test_control_one_id_per_worker_is_caught(kafka: Kafka, tmp_path: Path) -> None:
    """With transactional ids per worker, as client documentation shows them, the same script doubles records."""
    verdict, _log = await zombie(kafka, tmp_path, "committing", one_id_per_worker=True)
    assert verdict.doubled
