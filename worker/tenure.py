"""A partition while this worker owns it: a tenure, its epoch, and the credit that its records hold."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from worker.outcomes import InputRecord, Outcome, Scored
from worker.sequencer import Sequencer

QUEUE_S = 0.5
"""What the model needs longer for is a queue."""
SMOOTHING_TEXTS = 64


def largest_share(partitions: int) -> float:
    """How much of the credit one of so many partitions may hold: nearly twice what is fair, so that partitions in step
    are never held back (aiokafka throws away what a paused one has prefetched); of many a quarter, so that a hot one
    can still keep the model busy.
    """
    return max(1 / 4, 2 / (partitions + 1))


class Credit:
    """What may be between fetch and commit: records and bytes. Exhausted at the limit, available again at 3/4 of it."""

    def __init__(self, max_records: int, max_bytes: int, model_slots: int = 1) -> None:
        self.max_records, self.max_bytes, self._model_slots = max_records, max_bytes, model_slots
        self.records = self.bytes = 0
        self._unfinished = 0
        """Records fetched whose outcome is not known."""
        self._model_s = 0.0
        """What a text took of a model slot, lately."""
        self._calming: set[asyncio.Event] = set()
        self._available = asyncio.Event()
        self._available.set()

    @property
    def records_left(self) -> int:
        return max(1, self.max_records - self.records)

    @property
    def is_queueing(self) -> bool:
        """Whether texts queue up: what is late then is late for the model's sake, not for a commit's."""
        return self._unfinished * self._model_s > QUEUE_S * self._model_slots

    def take(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        self._unfinished += records
        if self.records >= self.max_records or self.bytes >= self.max_bytes:
            self._available.clear()

    def finished(self, records: int, model_s: float | None = None) -> None:
        """The outcomes of so many are known, each after so long in the model; they are held until given back."""
        self._unfinished -= records
        if model_s is not None:
            self._model_s += (model_s - self._model_s) / SMOOTHING_TEXTS
        if self._calming and not self.is_queueing:
            for event in self._calming:
                event.set()

    def give_back(self, records: int, size: int) -> None:
        self.records -= records
        self.bytes -= size
        if self.records <= self.max_records * 3 // 4 and self.bytes <= self.max_bytes * 3 // 4:
            self._available.set()

    async def available(self) -> None:
        await self._available.wait()

    @contextmanager
    def calming(self, event: asyncio.Event) -> Iterator[None]:
        """Inside, `event` is set when texts cease to queue up."""
        self._calming.add(event)
        try:
            yield
        finally:
            self._calming.discard(event)


class Tenure:
    """One epoch of one partition: from a fence to the loss of the partition or the next fence.

    What carries an old tenure comes too late: `finish` drops it. The epoch itself is for people who read logs.
    """

    _epochs = itertools.count(1)

    def __init__(
        self, partition: TopicPartition, credit: Credit, position: int, skips: frozenset[int] = frozenset()
    ) -> None:
        self.partition = partition
        self.epoch = next(self._epochs)
        self.position = position
        """The offset that the next transaction starts from: all before it is committed."""
        self.next_offset = position
        """The offset after the last one fetched."""
        self.skips = skips
        """Offsets that an operator has told to leave unscored."""
        self.is_open = True
        self._credit = credit
        self._sequencer: Sequencer[Outcome] = Sequencer()
        self._held_records = self._held_bytes = self._unfinished = 0
        self._held_since_ms: dict[int, int] = {}
        """The timestamps of the records held, by offset, in its order."""
        self._in_model = 0
        self._retired = False
        self._failure: KafkaError | None = None
        self._enough = 1
        """So many finished records wake who waits for them."""
        self._changed = asyncio.Event()

    @property
    def held_records(self) -> int:
        """Records between fetch and commit."""
        return self._held_records

    def lag_s(self) -> float:
        """Age in seconds of the oldest record held, by its own timestamp; 0 when there is none."""
        oldest_ms = next(iter(self._held_since_ms.values()), None)
        return max(0.0, time.time() - oldest_ms / 1000) if oldest_ms is not None else 0.0

    def holds(self, share: float) -> bool:
        """Whether it holds at least this share of all credit."""
        credit = self._credit
        return self._held_records >= credit.max_records * share or self._held_bytes >= credit.max_bytes * share

    def admit(self, record: InputRecord) -> None:
        """A record was fetched: it takes credit and its place in the order."""
        size = size_bytes(record)
        self._sequencer.expect(record.offset)
        self.next_offset = record.offset + 1
        self._held_records += 1
        self._held_bytes += size
        self._unfinished += 1
        self._held_since_ms[record.offset] = record.timestamp
        self._credit.take(1, size)

    def enter_model(self) -> None:
        """One of this tenure's texts is in a batch now."""
        self._in_model += 1

    def leave_model(self) -> None:
        self._in_model -= 1
        if self._retired:
            self._changed.set()

    def finish(self, outcome: Outcome) -> None:
        """The outcome of an admitted record; dropped if this epoch is over."""
        if self.is_open:
            self._sequencer.finish(outcome.record.offset, outcome)
            self._unfinished -= 1
            self._credit.finished(1, outcome.infer_s if isinstance(outcome, Scored) else None)
            if self._sequencer.ready() >= self._enough:
                self._changed.set()

    def retire(self) -> None:
        """The partition is being taken away: only what is in the model already is still waited for."""
        self._retired = True
        self._changed.set()

    @property
    def accepts(self) -> bool:
        """Whether its texts are still worth scoring."""
        return self.is_open and not self._retired

    def fail(self, error: KafkaError) -> None:
        """Make `next_outcomes` raise `error`, so that the partition is opened again."""
        self._failure = error
        self._changed.set()

    def close(self) -> None:
        """End this epoch and give all credit back."""
        self.is_open = False
        self._credit.finished(self._unfinished)
        self._credit.give_back(self._held_records, self._held_bytes)
        self._held_records = self._held_bytes = self._unfinished = 0
        self._held_since_ms.clear()

    async def next_outcomes(self, enough: int, not_before_s: float, at_latest_s: float = 0.0) -> list[Outcome]:
        """The next outcomes in order, as soon as `enough` are finished; else at `not_before_s` (loop time), or, while
        texts queue up in this worker, at `at_latest_s`.

        Empty when the tenure is retired and nothing more will come. Raises what `fail` was given.
        """
        await self._until(1, self._is_drained)
        await self._until(enough, lambda: self._retired, not_before_s)
        with self._credit.calming(self._changed):
            await self._until(enough, lambda: self._retired or not self._credit.is_queueing, at_latest_s)
        return self._sequencer.take()

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """They are in the topics for good: their credit comes back, the position moves past them."""
        size = sum(size_bytes(outcome.record) for outcome in outcomes)
        for outcome in outcomes:
            self._held_since_ms.pop(outcome.record.offset, None)
        self._held_records -= len(outcomes)
        self._held_bytes -= size
        self._credit.give_back(len(outcomes), size)
        self.position = outcomes[-1].record.offset + 1

    def _is_drained(self) -> bool:
        return self._retired and not self._in_model

    async def _until(self, enough: int, condition: Callable[[], bool], deadline_s: float | None = None) -> None:
        """Wait for so many finished, or the condition (asked whenever something else has changed), or the deadline."""
        self._enough = enough
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s):
                while self._sequencer.ready() < enough and not condition() and not self._failure:
                    self._changed.clear()
                    await self._changed.wait()
        if self._failure:
            raise self._failure


def size_bytes(record: InputRecord) -> int:
    """What a record holds in memory, roughly: key, value and headers."""
    size = len(record.value or b"") + len(record.key or b"")
    for key, value in record.headers:
        size += len(key) + len(value or b"")
    return size
