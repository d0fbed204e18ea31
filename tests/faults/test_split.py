"""Transactions that ended differently in their partitions, as a broker that breaks its word leaves them behind."""

import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from streamgauge.events import TransactionMeasured, decode_measurement, last_header
from streamgauge.groups import transactional_id
from streamgauge.kafka import admin_client, client_options
from streamgauge.provisioning import make_right
from streamgauge.stable_offset import stable_offset
from streamgauge.topic_ids import topic_ids
from tests.cluster import Kafka, Stream
from tests.echo import EchoModel
from tests.faults.replica import Replica
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import Input, Verdict, generate, judge
from tests.records import FakeRecord
from worker.audit import Audit
from worker.dead_letters import GROUP_HEADER, POSITION
from worker.intake import decode
from worker.outcomes import Encoded, ModelIdentity, Outcome, Refused, Scored
from worker.output import Origin, OutputRecord, ce_source, output_records
from worker.progress import Progress, progress_of
from worker.transaction import send_in_order

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="replicas are watched through /proc"),
]

BEFORE, SPLIT, AFTER = 20, 12, 5
"""Records of each partition before the split transaction, in it, and after it."""
SETTINGS = {"session_timeout_s": 3}
"""The next worker waits for the session of the one before, which was killed."""
MODEL = ModelIdentity(EchoModel.ref, EchoModel.labels)
PARTS = ("results", "audit", "dead letters", "metrics", "offset")


def outcome_of(value: bytes, partition: int, offset: int, topic: str) -> Outcome:
    """What the worker makes of a record."""
    record = FakeRecord(value, offset=offset, partition=partition, topic=topic)
    accepted = decode(record, max_text_bytes=10_000)
    if isinstance(accepted, Refused):
        return accepted
    [(ids, truncated)] = EchoModel().encode([accepted.text])
    encoded = Encoded(record, accepted.message_id, None, ids, truncated, 0.001, 0.0)
    return Scored(encoded, MODEL, EchoModel().score([ids])[0].tolist(), 0.001, 0.001, len(ids), 0.002)


class Split(NamedTuple):
    """A partition's transaction over `inputs` from offset `first` on, of which only the parts named were committed."""

    stream: Stream
    partition: int
    committed: frozenset[str]

    async def forge(self, inputs: Mapping[tuple[int, int], Input]) -> None:
        """Leave it behind, written under the worker's transactional id."""
        source = TopicPartition(self.stream.topics.input, self.partition)
        offsets = sorted(offset for partition, offset in inputs if partition == self.partition)
        outcomes = [
            outcome_of(inputs[self.partition, offset].value, self.partition, offset, source.topic) for offset in offsets
        ]
        origin = Origin(self.stream.group, "forger")
        audit, topics = Audit(AUDIT_SHARE, ""), self.stream.topics
        records = output_records(outcomes, origin, audit, MODEL.ref, topics, 1_700_000_000)
        async with admin_client(self.stream.kafka) as admin:
            committed = await stable_offset(admin, self.stream.group, source)
            progress = progress_of(committed) if committed else None
            assert progress
            # What an opening makes of it.
            progress = progress.on(await topic_ids(admin, topics.outputs))
            await self._write(progress, source, offsets, records)

    async def _write(
        self, progress: Progress, source: TopicPartition, offsets: list[int], records: Sequence[OutputRecord]
    ) -> None:
        topics = self.stream.topics
        names = {
            topics.results: "results",
            topics.audit: "audit",
            topics.dead_letter: "dead letters",
            topics.metrics: "metrics",
        }
        sent: dict[str, tuple[int, int]] = {}
        options = client_options(self.stream.kafka)
        async with AIOKafkaProducer(
            transactional_id=transactional_id(self.stream.group, source), **options
        ) as producer:
            for commits in (False, True):
                await producer.begin_transaction()
                for topic in (topic for topic, name in names.items() if (name in self.committed) is commits):
                    own = [record for record in records if record.topic == topic]
                    sent[topic] = await send_in_order(producer, topic, self.partition, own), len(own)
                if not commits:
                    await producer.abort_transaction()
                    continue
                if "offset" in self.committed:
                    after = progress.after(offsets[0], offsets[-1] + 1, sent)
                    await producer.send_offsets_to_transaction({source: after.committed()}, self.stream.group)
                await producer.commit_transaction()


SUBSETS = [frozenset(parts) for parts in chain.from_iterable(combinations(PARTS, n) for n in range(len(PARTS) + 1))]


@asynccontextmanager
async def working(stream: Stream, log_dir: Path, name: str, **plan: Any) -> AsyncIterator[Replica]:
    settings = SETTINGS | plan.pop("settings", {})
    async with Replica(stream, name, log_dir, settings=settings, **plan) as replica:
        yield replica


async def work(stream: Stream, log_dir: Path, name: str, until_offset: int, **plan: Any) -> str:
    """Let a worker process commit up to this offset in every partition; returns its log."""
    async with working(stream, log_dir, name, **plan) as replica:
        await stream.all_committed(until_offset)
        return replica.log


def measured_wrong(events: Sequence[TransactionMeasured], partitions: int, records: int) -> Iterator[str]:
    """Where metric events do not cover each record exactly once, or do not add up."""
    for partition in range(partitions):
        own = [event for event in events if event.partition == partition]
        covered = sorted(offset for event in own for offset in range(event.first_offset, event.last_offset + 1))
        if covered != list(range(records)):
            yield f"{partition}: covered {covered}"
        outcomes = sum(sum(event.labels.values()) + sum(event.dead_letters.values()) for event in own)
        if outcomes != records or sum(event.records for event in own) != records:
            yield f"{partition}: {outcomes} outcomes"


async def perform(kafka: Kafka, log_dir: Path, *, is_upgrade: bool = False, **plan: Any) -> tuple[Verdict, list[str]]:
    """Every split outcome, each in a partition of its own, and a worker that goes on after it.

    `is_upgrade`: the committed offsets before it are those of a version that knew no audit.
    """
    stream = await Stream.create(kafka.bootstrap_servers, partitions=len(SUBSETS))
    inputs = await stream.publish(generate(BEFORE * len(SUBSETS), seed=51))
    await work(stream, log_dir, "before", BEFORE)
    if is_upgrade:
        await forget_the_audit(stream)
    split = await stream.publish(generate(SPLIT * len(SUBSETS), seed=52))
    for partition, committed in enumerate(SUBSETS):
        await Split(stream, partition, committed).forge(split)
    inputs |= split
    inputs |= await stream.publish(generate(AFTER * len(SUBSETS), seed=53))
    await work(stream, log_dir, "after", BEFORE + SPLIT + AFTER, **plan)
    events = [decode_measurement(record.value) for record in await stream.read([stream.topics.metrics])]
    problems = list(measured_wrong(events, len(SUBSETS), BEFORE + SPLIT + AFTER))
    return judge(inputs, await stream.outputs(), AUDIT_SHARE), problems


async def forget_the_audit(stream: Stream) -> None:
    """Have the committed offsets tell nothing of the audit topic, as earlier versions wrote them."""
    for partition in range(stream.partitions):
        source = TopicPartition(stream.topics.input, partition)
        async with (
            admin_client(stream.kafka) as admin,
            AIOKafkaProducer(
                transactional_id=transactional_id(stream.group, source), **client_options(stream.kafka)
            ) as producer,
        ):
            committed = await stable_offset(admin, stream.group, source)
            progress = progress_of(committed) if committed else None
            assert progress
            outputs = {topic: stretch for topic, stretch in progress.outputs.items() if topic != stream.topics.audit}
            earlier = msgspec.structs.replace(progress, outputs=outputs)
            async with producer.transaction():
                await producer.send_offsets_to_transaction({source: earlier.committed()}, stream.group)


@pytest.mark.parametrize("is_upgrade", [False, True])
async def test_whatever_was_committed_each_record_comes_once(kafka: Kafka, tmp_path: Path, is_upgrade: bool) -> None:
    """Results, audit, dead letters, metric event and offset, each visible or not: all of them end the same."""
    verdict, problems = await perform(kafka, tmp_path, is_upgrade=is_upgrade)
    assert verdict.is_clean, verdict
    assert not problems


@pytest.mark.parametrize("visible", [{"results", "audit"}, {"results", "metrics"}, {"audit", "dead letters"}])
async def test_a_part_that_is_done_again_is_not_all(kafka: Kafka, tmp_path: Path, visible: set[str]) -> None:
    """A worker repairs the beginning of a split transaction and is killed; the next one repairs the rest of it."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(BEFORE, seed=61))
    await work(stream, tmp_path, "before", BEFORE)
    split = await stream.publish(generate(SPLIT, seed=62))
    await Split(stream, 0, frozenset({*visible, "offset"})).forge(split)
    few = {"max_records": SPLIT // 3}
    async with working(stream, tmp_path, "killed", step="committed", signal="SIGKILL", settings=few) as replica:
        assert await replica.ended() == -signal.SIGKILL
    assert BEFORE < ((await stream.committed())[0] or 0) < BEFORE + SPLIT
    await work(stream, tmp_path, "after", BEFORE + SPLIT)
    verdict = judge(inputs | split, await stream.outputs(), AUDIT_SHARE)
    assert verdict.is_clean, verdict


async def test_anothers_outputs_are_not_ours(kafka: Kafka, tmp_path: Path) -> None:
    """Two groups write into the same outputs; one's transaction is split, the other has scored the same records."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=2)
    other = replace(stream, group=f"{stream.group}-other")
    async for _line in make_right(stream.kafka, stream.topics, other.group, stream.partitions, None, dry_run=False):
        pass
    inputs = await stream.publish(generate(BEFORE * 2, seed=54))
    await work(stream, tmp_path, "before", BEFORE)
    split = await stream.publish(generate(SPLIT * 2, seed=55))
    inputs |= split
    await work(other, tmp_path, "other", BEFORE + SPLIT)
    await Split(stream, 0, frozenset({"results"})).forge(split)
    await Split(stream, 1, frozenset({"dead letters", "metrics", "offset"})).forge(split)
    inputs |= await stream.publish(generate(AFTER * 2, seed=56))
    for group in (stream, other):
        await work(group, tmp_path, "after", BEFORE + SPLIT + AFTER)
    outputs = await stream.outputs()
    for group in (stream, other):
        verdict = judge(inputs, [record for record in outputs if written_by(record) == group.group], AUDIT_SHARE)
        assert verdict.is_clean, verdict


def written_by(record: Any) -> str:
    """The group that wrote a result or dead letter."""
    group = last_header(record.headers, "streamgauge.group") or last_header(record.headers, "ce_source") or b""
    return group.decode().rpartition("/")[2]


async def test_what_only_looks_like_ours_is_passed(kafka: Kafka, tmp_path: Path) -> None:
    """Records with our headers and in a form that we never write stop nobody, and are not taken for outcomes."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(BEFORE, seed=59))
    await work(stream, tmp_path, "before", BEFORE)
    source = ("ce_source", ce_source(stream.group).encode())
    ids = (f"{stream.topics.input}-0-{BEFORE}".encode(), f"{stream.topics.input}-0-x".encode(), b"\xff", None)
    letter = [(POSITION[0], stream.topics.input.encode()), (POSITION[1], b"0"), (POSITION[2], b"x")]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in (None, b"", b"{}", b"\xff"):
            for topic in (stream.topics.results, stream.topics.audit, stream.topics.metrics):
                for ce_id in ids:
                    await producer.send_and_wait(topic, value, b"key", 0, headers=[source, ("ce_id", ce_id)])
            group = (GROUP_HEADER, stream.group.encode())
            await producer.send_and_wait(stream.topics.dead_letter, value, b"key", 0, headers=[*letter, group])
    inputs |= await stream.publish(generate(AFTER, seed=60))
    log = await work(stream, tmp_path, "after", BEFORE + AFTER)
    assert "outputs.differ" not in log
    outputs = [record for record in await stream.outputs() if len(record.headers) > len(letter) + 1]
    assert judge(inputs, outputs, AUDIT_SHARE).is_clean


async def test_outputs_that_retention_has_emptied_are_no_loss(kafka: Kafka, tmp_path: Path) -> None:
    """What was committed, and deleted since, is not scored again."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    await stream.publish(generate(BEFORE, seed=57))
    await work(stream, tmp_path, "before", BEFORE)
    async with admin_client(stream.kafka) as admin:
        everything = RecordsToDelete(before_offset=-1)
        await admin.delete_records({TopicPartition(name, 0): everything for name in stream.topics.outputs})
    inputs = await stream.publish(generate(AFTER, seed=58))
    log = await work(stream, tmp_path, "after", BEFORE + AFTER)
    assert "outputs.differ" not in log
    assert judge(inputs, await stream.outputs(), AUDIT_SHARE).is_clean


async def test_a_worker_that_trusts_the_offset_is_caught(kafka: Kafka, tmp_path: Path) -> None:
    """The same splits, and a worker that does not look at its outputs: records are lost, and doubled."""
    verdict, problems = await perform(kafka, tmp_path, control="trusts_the_offset")
    assert verdict.lost
    assert verdict.doubled
    assert verdict.audit
    assert problems


async def test_a_worker_that_does_not_look_at_the_audit_is_caught(kafka: Kafka, tmp_path: Path) -> None:
    """The same splits: each record has its outcome, but the audit lacks some, and holds others a second time."""
    verdict, problems = await perform(kafka, tmp_path, control="audit_unseen")
    found = {what for what, *_position in verdict.audit}
    assert (verdict.lost, verdict.doubled, problems) == ([], [], [])
    assert found == {"lost", "differs", "no result"}
