"""What readers see already of a partition's outputs, from the last transaction on.

A broker can break its word: one that coordinates transactions, killed and started again at once, acts on the end of its
log that no other broker has. Then a transaction is committed in some of its partitions and aborted in the others. So at
each opening the outputs are read, from where the committed offset says that the last transaction stands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from streamgauge.aiokafka_private import bound_requests
from streamgauge.events import NO_EVENT, decode_measurement, decode_prediction, last_header
from streamgauge.kafka import REQUEST_TIMEOUT_S, close_consumer, service_options
from streamgauge.settings import KafkaSettings, TopicSettings
from worker.dead_letters import GROUP_HEADER
from worker.outcomes import Shown
from worker.output import ce_source
from worker.progress import Progress

READERS = 4
"""Outputs read at once: each holds a transaction's records for a moment."""
POLL_MS = 20
MAX_POLL_RECORDS = 1000


class Tail(msgspec.Struct, frozen=True):
    """The records of the last transaction, and after it, that readers see."""

    shown: Mapping[int, Shown]
    """By source offset."""
    measured: Sequence[range]
    """The source offsets that metric events cover."""
    missing: int
    """Records that the last transaction wrote, and nobody sees."""

    def is_measured(self, offset: int) -> bool:
        return any(offset in covered for covered in self.measured)


NOTHING = Tail({}, (), 0)


class Outputs:
    """The outputs as readers see them. `watermarks` is a consumer without a group that sees what is not committed."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, group: str, watermarks: AIOKafkaConsumer) -> None:
        self._kafka, self._topics, self._group, self._watermarks = kafka, topics, group, watermarks
        self._readers = asyncio.Semaphore(READERS)
        self._idle: list[AIOKafkaConsumer] = []

    async def ends(self, partition: int) -> dict[str, int]:
        """By topic, where what is written next will stand."""
        ends = await self._watermarks.end_offsets(self._of(partition))
        return {tp.topic: end for tp, end in ends.items()}

    async def tail(self, source: TopicPartition, progress: Progress, moved: Callable[[], None]) -> Tail:
        """What is visible of source's last transaction and after it.

        To be asked after the fence: then nothing of ours can change any more. `moved` is called as long as reading goes
        on; it stands still where another group's transaction is open in the same output. Raises KafkaError.
        """
        partitions = self._of(source.partition)
        lows, highs = await asyncio.gather(
            self._watermarks.beginning_offsets(partitions), self._watermarks.end_offsets(partitions)
        )
        firsts = {tp: progress.outputs[tp.topic].first for tp in partitions}
        begins = {tp: max(lows[tp], min(first, highs[tp])) for tp, first in firsts.items()}
        # What was deleted is no loss.
        complete = [tp.topic for tp, first in firsts.items() if first >= lows[tp]]
        found = _Found(source, progress, self._group, self._topics)
        await self._read({tp: begin for tp, begin in begins.items() if begin < highs[tp]}, highs, found.add, moved)
        missing = sum(max(0, progress.outputs[name].records - found.counts[name]) for name in complete)
        return Tail(found.shown, found.measured, missing)

    def _of(self, partition: int) -> list[TopicPartition]:
        return [TopicPartition(name, partition) for name in self._topics.outputs]

    async def _read(
        self,
        begins: Mapping[TopicPartition, int],
        highs: Mapping[TopicPartition, int],
        add: Callable[[Any], None],
        moved: Callable[[], None],
    ) -> None:
        """Add the committed records from `begins` up to `highs`, which were the ends for those who see everything.

        The end for read_committed readers would not do: behind another group's open transaction it hides ours.
        """
        if not begins:
            return
        async with self._reader() as reader:
            reader.assign(list(begins))
            for tp, begin in begins.items():
                reader.seek(tp, begin)
            positions = begins
            while any(position < highs[tp] for tp, position in positions.items()):
                for records in (await reader.getmany(timeout_ms=POLL_MS)).values():
                    for record in records:
                        add(record)
                before, positions = positions, {tp: await reader.position(tp) for tp in begins}
                if positions != before:
                    moved()

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        """One of a few consumers, kept: to connect takes longer than to read. After an error it is not used again."""
        async with self._readers:
            reader = self._idle.pop() if self._idle else await self._started()
            try:
                yield reader
            except BaseException:
                await close_consumer(reader)
                raise
            reader.unsubscribe()
            self._idle.append(reader)

    async def _started(self) -> AIOKafkaConsumer:
        reader = AIOKafkaConsumer(
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_poll_records=MAX_POLL_RECORDS,
            **service_options(self._kafka),
        )
        bound_requests(reader, REQUEST_TIMEOUT_S)
        try:
            await reader.start()
        except BaseException:
            await close_consumer(reader)
            raise
        return reader

    async def close(self) -> None:
        await asyncio.gather(*map(close_consumer, self._idle))


class _Found:
    """Sorts what is read: only our group's records of one source partition count."""

    def __init__(self, source: TopicPartition, progress: Progress, group: str, topics: TopicSettings) -> None:
        self._source, self._topics = source, topics
        self._last = range(progress.first, progress.next)
        self._group, self._ce_source = group.encode(), ce_source(group).encode()
        self._shown: dict[int, Shown] = {}
        self._audited: dict[int, Shown] = {}
        self.measured: list[range] = []
        self.counts = dict.fromkeys(topics.outputs, 0)
        """By topic: what was found of the last transaction."""

    @property
    def shown(self) -> dict[int, Shown]:
        """By source offset; what stands in both the results and the audit is not unpaired."""
        pairs = self._shown.keys() & self._audited.keys()
        return self._audited | self._shown | {at: replace(self._shown[at], unpaired=None) for at in pairs}

    def add(self, record: Any) -> None:
        """Take note of it; what only looks like ours, in a form that we never write, is passed."""
        with suppress(ValueError, *NO_EVENT):
            if record.topic == self._topics.dead_letter:
                self._add_dead_letter(record)
            elif last_header(record.headers, "ce_source") == self._ce_source:
                (self._add_measured if record.topic == self._topics.metrics else self._add_prediction)(record)

    def _add_measured(self, record: Any) -> None:
        event = decode_measurement(record.value or b"")
        if (event.topic, event.partition) == self._source and event.last_offset >= self._last.start:
            self.measured.append(range(event.first_offset, event.last_offset + 1))
            self.counts[record.topic] += event.first_offset in self._last

    def _add_prediction(self, record: Any) -> None:
        position, _, offset = (last_header(record.headers, "ce_id") or b"").decode().rpartition("-")
        if position != f"{self._source.topic}-{self._source.partition}":
            return
        prediction = decode_prediction(record.value or b"")
        if record.topic == self._topics.audit:
            self._add(record, int(offset), Shown(prediction, None, None, unpaired=record))
        else:
            unpaired = None if prediction.audit is None else record
            self._add(record, int(offset), Shown(prediction, None, record.timestamp, unpaired))

    def _add_dead_letter(self, record: Any) -> None:
        names = ("topic", "partition", "offset", "exception.class.name")
        topic, partition, offset, reason = (
            (last_header(record.headers, f"__connect.errors.{name}") or b"").decode() for name in names
        )
        ours = last_header(record.headers, GROUP_HEADER) == self._group
        if ours and (topic, partition) == (self._source.topic, str(self._source.partition)):
            self._add(record, int(offset), Shown(None, reason, None))

    def _add(self, record: Any, offset: int, shown: Shown) -> None:
        if offset >= self._last.start:
            self.counts[record.topic] += offset in self._last
            (self._audited if record.topic == self._topics.audit else self._shown)[offset] = shown
