"""Publishes dead letters back to where they came from, with their ids, once each.

How far the dead letters of one reason have been replayed is a consumer group's committed offset, moved in the same
transaction that publishes them; so doing it twice, or being killed in the middle, publishes none twice. A dead letter
that cannot go back is passed, and named with what to do about it: it must not hold up those behind it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.aiokafka_records import batch_bytes
from streamgauge.coordination import check_coordination
from streamgauge.events import CONNECT_ERRORS, MAX_HEADERS, Reason, last_header, utc_now
from streamgauge.groups import committed_offset, fenced_producer
from streamgauge.kafka import admin_client, answered
from streamgauge.provisioning import check_exist, describe
from streamgauge.rights import check_rights, named_rights, replaying
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import polls_up_to, topic_reader
from streamgauge.topics import Topic
from worker.dead_letters import POSITION, headers_back, number_in, was_replayed
from worker.intake import decode
from worker.outcomes import Refused
from worker.output import Emptied, OutputRecord
from worker.settings import WorkerSettings
from worker.transaction import MAX_BATCH_BYTES, send_in_order

MAX_RECORDS = 500
"""In one transaction."""
NOT_WHOLE = (Reason.UNREADABLE, Reason.TOO_MANY_HEADERS)
"""Their dead letters hold no content, or not all headers."""


class Passed(NamedTuple):
    """A dead letter that stays where it is: `TOPIC:PARTITION:OFFSET`, and why."""

    position: str
    why: str


class Replayed(NamedTuple):
    """What became of the dead letters of one reason that had not been replayed yet."""

    reason: Reason
    records: int
    passed: list[Passed]
    again: int = 0
    """Of the records that go back, so many that a worker would refuse as they are."""


def replay_group(group: str, reason: Reason) -> str:
    """The group whose offsets say how far dead letters of this reason have been replayed."""
    return f"{group}.replay.{reason.value}"


async def replay(
    kafka: KafkaSettings, topics: TopicSettings, worker: WorkerSettings, reasons: Sequence[Reason], *, dry_run: bool
) -> AsyncIterator[Replayed]:
    """Replay what has not been replayed yet, reason by reason; `worker`: what the workers of its group go by."""
    needed = replaying(topics, worker.group)
    async with admin_client(kafka) as admin, named_rights(admin, needed):
        await check_coordination(admin)
        await check_rights(admin, needed)
        partitions = (await check_exist(admin, [topics.dead_letter, topics.input], "Describe"))[topics.dead_letter]
        target = (await describe(admin, [topics.input]))[topics.input]
        async with topic_reader(kafka) as consumer:
            for reason in reasons:
                replayer = _Replayer(kafka, admin, consumer, worker, target, reason)
                for number in range(partitions):
                    await replayer.partition(TopicPartition(topics.dead_letter, number), dry_run=dry_run)
                yield Replayed(reason, replayer.records, replayer.passed, replayer.again)


class _Replayer:
    """One reason's dead letters on their way back to `target`, and what became of them."""

    def __init__(
        self,
        kafka: KafkaSettings,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
        worker: WorkerSettings,
        target: Topic,
        reason: Reason,
    ) -> None:
        self._kafka, self._admin, self._consumer, self._worker = kafka, admin, consumer, worker
        self._group, self._target, self._reason = replay_group(worker.group, reason), target, reason
        self.records = self.again = 0
        self.passed: list[Passed] = []

    async def partition(self, tp: TopicPartition, *, dry_run: bool) -> None:
        """Replay one partition of the dead letters; the fence comes first, so that two replays do not both publish."""
        async with AsyncExitStack() as stack:
            producer = None
            if not dry_run:
                most = min(MAX_BATCH_BYTES, int(self._target.config["max.message.bytes"]))
                producer = await stack.enter_async_context(fenced_producer(self._kafka, self._group, tp, most))
            await self._replay(tp, producer)

    async def _replay(self, tp: TopicPartition, producer: AIOKafkaProducer | None) -> None:
        committed = await committed_offset(self._admin, self._group, tp)
        self._consumer.assign([tp])
        self._consumer.seek(tp, committed.offset if committed else 0)
        end = (await self._consumer.end_offsets([tp]))[tp]
        async for polled in polls_up_to(self._consumer, {tp: end}, self._kafka, MAX_RECORDS):
            going = self._sorted(polled.get(tp, []))
            if producer:
                # The position may be past letters that came after `end` was asked for: they are for the next run.
                next_offset = min(end, await self._consumer.position(tp))
                publishing = self._publish(producer, tp, going, next_offset)
                await answered(self._kafka, publishing, "dead letters were published")

    def _sorted(self, letters: Sequence[Any]) -> dict[int, list[OutputRecord]]:
        """What goes back, by partition; what stays is noted."""
        going: dict[int, list[OutputRecord]] = {}
        for letter in letters:
            if self._is_ours(letter):
                back = record_back(letter, self._target)
                if why := why_not(letter, self._reason, self._target, back):
                    self.passed.append(Passed(f"{letter.topic}:{letter.partition}:{letter.offset}", why))
                else:
                    self.records += 1
                    self.again += is_refused_again(letter, back, self._worker.max_text_bytes)
                    going.setdefault(number_in(letter.headers, POSITION[1]) or 0, []).append(back)
        return going

    def _is_ours(self, letter: Any) -> bool:
        """Of the reason, and from the topic that is replayed to: a record tells its last failure last."""
        failed_for = last_header(letter.headers, CONNECT_ERRORS + "exception.class.name")
        return failed_for == self._reason.value.encode() and _source(letter)[0] == self._target.name

    async def _publish(
        self,
        producer: AIOKafkaProducer,
        tp: TopicPartition,
        by_partition: dict[int, list[OutputRecord]],
        next_offset: int,
    ) -> None:
        async with producer.transaction():
            for partition, own in by_partition.items():
                await send_in_order(producer, self._target.name, partition, own)
            await producer.send_offsets_to_transaction({tp: OffsetAndMetadata(next_offset, "")}, self._group)


def record_back(letter: Any, target: Topic) -> OutputRecord:
    """The record that a dead letter was made of, for `target`."""
    return OutputRecord(target.name, letter.key, letter.value, headers_back(letter.headers, utc_now()))


def is_refused_again(letter: Any, back: OutputRecord, max_text_bytes: int) -> bool:
    """Whether a worker would refuse the record of a dead letter before it comes to its model."""
    record = Emptied(back.topic, letter.partition, letter.offset, letter.timestamp, back.key, back.value, back.headers)
    return isinstance(decode(record, max_text_bytes=max_text_bytes), Refused)


def why_not(letter: Any, reason: Reason, target: Topic, back: OutputRecord) -> str | None:
    """Why a dead letter cannot go back, with what to do; None: it can."""
    source = ":".join(_source(letter))
    partition, most = number_in(letter.headers, POSITION[1]), int(target.config["max.message.bytes"])
    if reason in NOT_WHOLE:
        return f"it is not the whole record, which still stands at {source}: read it there, and publish it anew"
    if was_replayed(letter.headers):
        return "it was replayed before, and refused again. Mend what refuses it, then publish it anew yourself"
    if partition is None or partition >= target.partitions:
        return f"it says that it came from {source}, and there is no such partition"
    if len(back.headers) > MAX_HEADERS:
        return f"with {len(back.headers)} headers it would be refused again. Publish it anew with fewer"
    size = batch_bytes(back.key, back.value, back.headers)
    if size > most:
        return (
            f"it takes {size} bytes, and {target.name} takes {most}. Publish it anew with less, or raise "
            "max.message.bytes of that topic before a replay (--dry-run tells) and run: streamgauge topics create"
        )
    return None


def _source(letter: Any) -> tuple[str, ...]:
    return tuple((last_header(letter.headers, name) or b"?").decode(errors="replace") for name in POSITION)
