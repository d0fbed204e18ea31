"""Wrong variants of the worker, one for each guarantee; a test that does not catch its variant proves nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

from aiokafka import AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from msgspec.structs import replace

import worker.service
import worker.start
import worker.tenure
import worker.transaction
from streamgauge.groups import committed_offset
from streamgauge.kafka import admin_client, client_options
from streamgauge.settings import KafkaSettings, TopicSettings
from worker.outcomes import Outcome
from worker.output import OutputRecord
from worker.publish import Publisher
from worker.sequencer import Sequencer
from worker.settings import WorkerSettings
from worker.tenure import Tenure
from worker.transaction import OffsetAfter, Writer, send_in_order
from worker.visible import NOTHING, Outputs, Tail


def one_id_per_worker(instance: str) -> None:
    """Transactional ids as client documentation shows them: another replica's writer is never fenced.

    Waiting for a stable offset and a look at the outputs would make up for it: each guarantee is tried by itself.
    """
    trusts_the_offset()
    mock.patch.object(worker.start, "stable_offset", committed_offset).start()
    mock.patch.object(worker.transaction, "transactional_id", lambda _group, tp: f"{instance}-{tp.partition}").start()


def offset_before_fence() -> None:
    """Reads the committed offset first, and never the outputs: what an owner commits before the fence is not seen."""
    trusts_the_offset()
    right, read = worker.transaction.fenced_writer, committed_offset
    starts: dict[TopicPartition, OffsetAndMetadata | None] = {}

    @asynccontextmanager
    async def read_then_fence(
        kafka: KafkaSettings, topics: TopicSettings, settings: WorkerSettings, source: TopicPartition, *rest: Any
    ) -> AsyncIterator[Writer]:
        async with admin_client(kafka) as admin:
            starts[source] = await read(admin, settings.group, source)
        async with right(kafka, topics, settings, source, *rest) as writer:
            yield writer

    async def as_read(_admin: Any, _group: str, tp: TopicPartition) -> OffsetAndMetadata | None:
        return starts[tp]

    mock.patch.object(worker.service, "fenced_writer", read_then_fence).start()
    mock.patch.object(worker.start, "stable_offset", as_read).start()


class HighestFinished:
    """A writer that commits past whatever has an outcome, gaps before it or not."""

    def __init__(self, tenure: Tenure, writer: Writer) -> None:
        self._tenure, self._writer = tenure, writer

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        highest = max(self._tenure._sequencer._finished, default=-1)

        def further(sent: Mapping[str, tuple[int, int]]) -> OffsetAndMetadata:
            return OffsetAndMetadata(max(offset_after(sent).offset, highest + 1), "")

        await self._writer.commit(records, further)


def highest_finished() -> None:
    """Commits the highest finished offset, not the end of what is finished without a gap."""
    right = Publisher._commit

    async def commit(self: Publisher, tenure: Tenure, writer: Writer, outcomes: list[Outcome]) -> None:
        await right(self, tenure, HighestFinished(tenure, writer), outcomes)

    mock.patch.object(Publisher, "_commit", commit).start()


def unawaited_send() -> None:
    """Nobody learns whether a batch was delivered."""
    right = AIOKafkaProducer.send_batch

    async def send_batch(self: AIOKafkaProducer, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        delivery = await right(self, *args, **kwargs)
        delivery.add_done_callback(lambda done: done.exception())
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        told.set_result(mock.Mock(offset=-1))
        return told

    mock.patch.object(AIOKafkaProducer, "send_batch", send_batch).start()


class Endless(Sequencer[Outcome]):
    """An order for all epochs: it takes offsets again, and any outcome for them."""

    def expect(self, offset: int) -> None:
        self._expected.append(offset)
        self._advance()

    def finish(self, offset: int, outcome: Outcome) -> None:
        self._finished[offset] = outcome
        self._advance()

    def _advance(self) -> None:
        while self._expected and self._expected[0] in self._finished:
            self._ready.append(self._finished[self._expected.popleft()])


def no_epoch() -> None:
    """A partition's order outlives its epochs, and late outcomes of an old epoch are taken into the new one."""
    orders: dict[TopicPartition, Endless] = {}
    current: dict[TopicPartition, Tenure] = {}
    begin = Tenure.__init__

    def begin_again(self: Tenure, partition: TopicPartition, *args: Any) -> None:
        begin(self, partition, *args)
        self._sequencer = orders.setdefault(partition, Endless())
        current[partition] = self

    def finish(self: Tenure, outcome: Outcome) -> None:
        orders[self.partition].finish(outcome.record.offset, outcome)
        current[self.partition]._changed.set()

    mock.patch.object(Tenure, "__init__", begin_again).start()
    mock.patch.object(Tenure, "finish", finish).start()


class Unordered(Sequencer[Outcome]):
    """Hands outcomes out in the order in which they finish."""

    def finish(self, offset: int, outcome: Outcome) -> None:
        self._ready.append(outcome)


def no_sequencer() -> None:
    """Outcomes are published as they come."""
    mock.patch.object(worker.tenure, "Sequencer", Unordered).start()


def trusts_the_offset() -> None:
    """Takes the committed offset's word for what the outputs hold."""

    async def unseen(*_args: Any) -> Tail:
        return NOTHING

    mock.patch.object(Outputs, "tail", unseen).start()


def audit_unseen() -> None:
    """Looks at all outputs but the audit: it neither adds what is missing there, nor knows what is there already."""
    right = Outputs.tail

    async def tail(self: Outputs, *args: Any) -> Tail:
        found = await right(self, *args)
        # What stands in the audit alone has no time at which a result was written.
        others = {offset: shown for offset, shown in found.shown.items() if shown.reason or shown.at_ms}
        shown = {offset: replace(shown, unpaired=None) for offset, shown in others.items()}
        return replace(found, shown=shown)

    mock.patch.object(Outputs, "tail", tail).start()


class AuditOutside:
    """A writer that sends the audit's records after its transaction, not in it.

    Before it would do no harm: what stands in the audit alone is found, and its result is made of it.
    """

    def __init__(self, writer: Writer, kafka: KafkaSettings, source: TopicPartition) -> None:
        self._writer, self._kafka, self._source = writer, kafka, source

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        audit = [record for record in records if record.topic.endswith(".audit")]
        await self._writer.commit([record for record in records if record not in audit], offset_after)
        if audit:
            async with AIOKafkaProducer(**client_options(self._kafka)) as producer:
                await send_in_order(producer, audit[0].topic, self._source.partition, audit)


def audit_outside() -> None:
    """The audit is written beside the transaction."""
    right = worker.transaction.fenced_writer

    @asynccontextmanager
    async def with_audit_outside(
        kafka: KafkaSettings, topics: TopicSettings, settings: WorkerSettings, source: TopicPartition, *rest: Any
    ) -> AsyncIterator[Writer]:
        async with right(kafka, topics, settings, source, *rest) as writer:
            yield AuditOutside(writer, kafka, source)

    mock.patch.object(worker.service, "fenced_writer", with_audit_outside).start()


VARIANTS: dict[str, Callable[[], None]] = {
    "offset_before_fence": offset_before_fence,
    "highest_finished": highest_finished,
    "unawaited_send": unawaited_send,
    "no_epoch": no_epoch,
    "no_sequencer": no_sequencer,
    "trusts_the_offset": trusts_the_offset,
    "audit_unseen": audit_unseen,
    "audit_outside": audit_outside,
}
