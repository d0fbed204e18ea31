"""The soak, short: the same code that runs for half an hour by hand. And that its verdict can be a bad one."""

import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamgauge.events import ModelRef, Position, Prediction, Timings, encode
from streamgauge.kafka import client_options
from tests.cluster import Kafka, Stream
from tests.faults.soak import Options, soak
from tests.faults.soak_stream import Feed, Flow, Ledger, verify
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import judge
from worker.audit import Audit

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the state of processes from /proc"),
]

SEED = 1171
"""Its first eight faults are the eight hardest kinds."""


@pytest.mark.timeout(300)
async def test_a_short_soak_is_clean(tmp_path: Path) -> None:
    """Nothing lost, doubled, wrong or out of order, whatever befalls three workers and three brokers."""
    print(f"seed {SEED}")
    report = await soak(Options(records=15_000, faults=8, nodes=3, seed=SEED), tmp_path)
    assert report.verdict_is_clean, report
    assert report.aborted + report.fenced, "no transaction was aborted or fenced: this run tested nothing"
    assert report.records == 15_000


async def test_the_verdict_finds_what_is_lost_and_what_is_doubled(kafka: Kafka) -> None:
    """Right outputs, written by hand, but for one that is missing and one that comes twice."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=2)
    ledger, flow = Ledger(SEED, stream.partitions), Flow.start(stream.partitions, each=300)
    await Feed(stream, ledger, flow, SEED, pace=lambda: 50_000).run()
    positions = sorted(ledger)
    assert positions == [(partition, offset) for partition in range(2) for offset in range(300)]
    results = [position for position in positions if isinstance(ledger[position].outcome, float)]
    dropped, doubled, altered = results[10], results[20], results[30]
    async with AIOKafkaProducer(**client_options(stream.kafka)) as producer:
        for position in positions:
            copies = {dropped: 0, doubled: 2}.get(position, 1)
            for _ in range(copies):
                await producer.send(**_output(stream, ledger, position, error=0.25 * (position == altered)))
    verdict = await verify(stream, ledger)
    assert (verdict.lost, verdict.doubled, verdict.wrong) == ([dropped], [doubled], [altered])
    assert verdict.out_of_order == [(stream.topics.results, *doubled)]


async def test_the_verdict_finds_what_is_wrong_with_the_audit(kafka: Kafka) -> None:
    """Right results, and an audit that lacks one, holds one twice, one that is altered, and one that was not chosen."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    ledger, flow = Ledger(SEED, 1), Flow.start(1, each=300)
    await Feed(stream, ledger, flow, SEED, pace=lambda: 50_000).run()
    audit = Audit(AUDIT_SHARE, "")
    results = [position for position in sorted(ledger) if isinstance(ledger[position].outcome, float)]
    chosen = [position for position in results if audit.share_of(_id(position))]
    other = next(position for position in results if position not in chosen)
    lost, doubled, altered = chosen[10], chosen[20], chosen[30]
    async with AIOKafkaProducer(**client_options(stream.kafka)) as producer:
        for position in sorted(ledger):
            await producer.send(**_output(stream, ledger, position, error=0))
        for position in sorted([other, *chosen]):
            record = _output(stream, ledger, position, error=0) | {"topic": stream.topics.audit}
            for _ in range({lost: 0, doubled: 2}.get(position, 1)):
                await producer.send(**record | ({"headers": [("a", b"b")]} if position == altered else {}))
    verdict = await verify(stream, ledger)
    assert sorted((partition, offset) for _what, partition, offset in verdict.audit) == sorted(
        [lost, doubled, altered, other]
    )
    assert verdict.out_of_order == [(stream.topics.audit, *doubled)]
    assert (verdict.lost, verdict.doubled, verdict.wrong) == ([], [], [])
    of_another_share = judge(ledger, await stream.outputs(), AUDIT_SHARE / 2)
    marked = {(partition, offset) for what, partition, offset in of_another_share.audit if what == "wrongly marked"}
    assert marked == set(chosen)


def _id(position: tuple[int, int]) -> str:
    return f"{position[0]}-{position[1]}"


def _output(stream: Stream, ledger: Ledger, position: tuple[int, int], error: float) -> dict[str, Any]:
    """What a worker would write for this input, with a probability that is off by `error`."""
    (partition, offset), outcome = position, ledger[position].outcome
    if not isinstance(outcome, float):
        parts = {"partition": str(partition), "offset": str(offset), "exception.class.name": outcome.value}
        headers = [(f"__connect.errors.{name}", text.encode()) for name, text in parts.items()]
        return {"topic": stream.topics.dead_letter, "partition": partition, "value": b"", "headers": headers}
    prediction = Prediction(
        id=_id(position),
        label="POSITIVE",
        score=1.0,
        scores={"POSITIVE": outcome + error},
        model=ModelRef(name="echo", version="1", digest="sha256:echo"),
        timings=Timings(tokenize_s=0, queue_s=0, infer_s=0),
        source=Position(topic=stream.topics.input, partition=partition, offset=offset, timestamp_ms=0),
        tokens=1,
        truncated=False,
        audit=Audit(AUDIT_SHARE, "").share_of(_id(position)),
    )
    return {"topic": stream.topics.results, "partition": partition, "value": encode(prediction)}
