"""A partition while this worker owns it: its order, its epoch, and the credit that its records hold."""

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from worker.commit_policy import Terms
from worker.credit import Credit, held_bytes
from worker.load import ModelLoad
from worker.outcomes import InputRecord, Outcome, Scored
from worker.progress import Progress
from worker.sequencer import Sequencer
from worker.visible import NOTHING, Tail


class Tenure:
    """One epoch of one partition: from a fence to the loss of the partition or the next fence.

    What belongs to an ended tenure comes too late: `finish` drops it. The epoch's number is for people who read logs.
    """

    _epochs = itertools.count(1)

    def __init__(
        self,
        partition: TopicPartition,
        credit: Credit,
        load: ModelLoad,
        position: int,
        progress: Progress,
        tail: Tail = NOTHING,
    ) -> None:
        self.partition = partition
        self.epoch = next(self._epochs)
        self.position = position
        """The offset that the next transaction starts from: all before it is committed."""
        self.progress = progress
        """What the last transaction left behind, for the next one to go on from."""
        self.skips = frozenset(progress.skips)
        """Offsets that an operator has told to leave unscored."""
        self.tail = tail
        """What readers see already."""
        self.is_open = True
        self.opened_s = time.monotonic()
        self._credit, self._load = credit, load
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

    def lag_s(self, now_s: float) -> float:
        """Age in seconds of the oldest record held, since the broker took it; 0 when there is none.

        `now_s`: seconds since the epoch.
        """
        oldest_ms = next(iter(self._held_since_ms.values()), None)
        return max(0.0, now_s - oldest_ms / 1000) if oldest_ms is not None else 0.0

    def holds(self, share: float) -> bool:
        """Whether it holds at least this share of all credit."""
        credit = self._credit
        return self._held_records >= credit.max_records * share or self._held_bytes >= credit.max_bytes * share

    def admit(self, record: InputRecord) -> None:
        """A record was fetched: it takes credit and its place in the order."""
        size = held_bytes(record)
        self._sequencer.expect(record.offset)
        self._held_records += 1
        self._held_bytes += size
        self._unfinished += 1
        self._held_since_ms[record.offset] = record.timestamp
        self._credit.take(1, size)
        self._load.add(1)

    def enter_model(self) -> None:
        """One of this tenure's texts is in a batch now."""
        self._in_model += 1

    def leave_model(self) -> None:
        self._in_model -= 1
        if self._retired:
            self.wake()

    def finish(self, outcome: Outcome) -> None:
        """The outcome of an admitted record; dropped if this epoch is over."""
        if self.is_open:
            was_ready = self._sequencer.ready()
            self._sequencer.finish(outcome.record.offset, outcome)
            self._unfinished -= 1
            self._load.finish(1, outcome.infer_s if isinstance(outcome, Scored) else None)
            if (is_ready := self._sequencer.ready()) >= self._enough or (is_ready and not was_ready):
                self.wake()

    def retire(self) -> None:
        """The partition is being taken away: only what is in the model already is still waited for."""
        self._retired = True
        self.wake()

    @property
    def accepts(self) -> bool:
        """Whether its texts are still worth scoring."""
        return self.is_open and not self._retired

    def fail(self, error: KafkaError) -> None:
        """Make `next_outcomes` raise `error`, so that the partition is opened again."""
        self._failure = error
        self.wake()

    def wake(self) -> None:
        """Something has changed that decides when the next transaction starts."""
        self._changed.set()

    def close(self) -> None:
        """End this epoch and give all credit back."""
        self.is_open = False
        self._load.finish(self._unfinished)
        self._credit.give_back(self._held_records, self._held_bytes)
        self._held_records = self._held_bytes = self._unfinished = 0
        self._held_since_ms.clear()

    async def next_outcomes(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> list[Outcome]:
        """The next outcomes in order, when the terms (times on `clock`, in seconds) say that a transaction starts.

        Empty when the tenure is retired and nothing more will come. Raises what `fail` was given.
        """
        self._enough = terms.enough
        while True:
            self._changed.clear()
            if self._failure:
                raise self._failure
            finished = self._sequencer.ready()
            if not finished and self._retired and not self._in_model:
                return []
            start_s = terms.start_s(finished, is_retired=self._retired, is_queueing=self._load.is_queueing)
            left_s = start_s - clock()
            if left_s <= 0:
                return self._sequencer.take()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s if left_s < math.inf else None):
                    await self._changed.wait()

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """They are in the topics for good: their credit comes back, the position moves past them."""
        size = sum(held_bytes(outcome.record) for outcome in outcomes)
        for outcome in outcomes:
            self._held_since_ms.pop(outcome.record.offset, None)
        self._held_records -= len(outcomes)
        self._held_bytes -= size
        self._credit.give_back(len(outcomes), size)
        self.position = outcomes[-1].record.offset + 1
