"""What a soak sends, and what comes of it: inputs by number, the feed, a reader that watches, the verdict.

Nothing here grows by more than a few bytes a record, but for the oracle's own count of what it saw.
"""

import asyncio
import time
import zlib
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from streamgauge.events import decode_prediction
from streamgauge.kafka import client_options
from tests.cluster import Stream
from tests.echo import echo_probability
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import BAD, Input, Verdict, judge

WORDS = (1, 1, 2, 5, 40)
TICK_S = 0.02
MAX_LAG_RECORDS = 20_000
"""The feed waits while so many records are sent and not seen in the output."""


def item(seed: int, number: int) -> Input:
    """The input of this number: a twentieth bad, the rest distinct texts of mixed lengths."""
    dice, bad = divmod(zlib.crc32(b"%d-%d" % (seed, number)), 20)
    if not bad:
        return Input(*BAD[dice % len(BAD)])
    text = f"text {seed}-{number} {'word ' * WORDS[dice % len(WORDS)]}"
    return Input(text.encode(), echo_probability(text))


class Ledger(Mapping[tuple[int, int], Input]):
    """The input at each (partition, offset), as the broker acknowledged it: 8 bytes a record."""

    def __init__(self, seed: int, partitions: int) -> None:
        self._seed = seed
        self._numbers = [array("q") for _ in range(partitions)]
        self._count = 0

    def note(self, number: int, partition: int, offset: int) -> None:
        """This input stands there. Raises ValueError if another does."""
        numbers = self._numbers[partition]
        numbers.extend([-1] * (offset + 1 - len(numbers)))
        if numbers[offset] != -1:
            raise ValueError(f"two inputs at {partition}-{offset}: {numbers[offset]} and {number}")
        numbers[offset] = number
        self._count += 1

    def holes(self, ends: Mapping[int, int]) -> list[tuple[int, int]]:
        """The positions below the log ends (by partition) that hold what was never acknowledged."""
        return [
            (partition, offset)
            for partition, end in ends.items()
            for offset in range(end)
            if (partition, offset) not in self
        ]

    def __contains__(self, position: object) -> bool:
        match position:
            case (int(partition), int(offset)) if 0 <= partition < len(self._numbers):
                return 0 <= offset < len(self._numbers[partition]) and self._numbers[partition][offset] != -1
        return False

    def __getitem__(self, position: tuple[int, int]) -> Input:
        if position not in self:
            raise KeyError(position)
        return item(self._seed, self._numbers[position[0]][position[1]])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for partition, numbers in enumerate(self._numbers):
            yield from ((partition, offset) for offset, number in enumerate(numbers) if number != -1)

    def __len__(self) -> int:
        return self._count


@dataclass
class Strike:
    """One blow and when the stream was over it. `at_s`, `recovery_s`: the monotonic clock, and from then on."""

    kind: str
    at_s: float
    waiting: dict[int, int]
    """By partition the first input offset that was sent after the blow, until its outcome was seen."""
    recovery_s: float | None = None


@dataclass
class Flow:
    """How far the stream is, by partition, and what befell it. Offsets are counts: the input holds nothing else."""

    sent: list[int]
    seen: list[int]
    """One past the input offset of the latest result that a read_committed reader saw."""
    each: int
    """Records that each partition gets in all."""
    strikes: list[Strike] = field(default_factory=list)

    @classmethod
    def start(cls, partitions: int, each: int) -> "Flow":
        return cls([0] * partitions, [0] * partitions, each)

    @property
    def lag(self) -> int:
        """Records sent whose outcome was not seen yet."""
        return sum(self.sent) - sum(self.seen)

    def strike(self, kind: str) -> Strike:
        """Note a blow that falls now. It is over when each partition has shown the result of an input sent later."""
        strike = Strike(kind, time.monotonic(), dict(enumerate(self.sent)))
        self.strikes.append(strike)
        return strike

    @contextmanager
    def held(self) -> Iterator[None]:
        """While a fault holds output back by its nature, the clock of blows that are not over stands still."""
        began_s = time.monotonic()
        yield
        for strike in self.strikes:
            if strike.recovery_s is None:
                strike.at_s += time.monotonic() - max(began_s, strike.at_s)

    def saw(self, partition: int, offset: int) -> None:
        """A reader saw the result of this input offset."""
        self.seen[partition] = offset + 1
        for strike in self.strikes:
            if strike.waiting and strike.waiting.get(partition, offset + 1) <= offset:
                del strike.waiting[partition]
                if not strike.waiting:
                    strike.recovery_s = time.monotonic() - strike.at_s

    async def watch(self, stream: Stream) -> None:
        """Follow the results as a user would, until cancelled."""
        async with AIOKafkaConsumer(isolation_level="read_committed", **client_options(stream.kafka)) as consumer:
            partitions = [TopicPartition(stream.topics.results, number) for number in range(stream.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            while True:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    self.saw(tp.partition, decode_prediction(records[-1].value).source.offset)


class Feed:
    """Sends inputs at a pace, each partition on its own: one without a leader does not hold up the others."""

    def __init__(self, stream: Stream, ledger: Ledger, flow: Flow, seed: int, pace: Callable[[], float]) -> None:
        self._stream, self._ledger, self._flow, self._seed = stream, ledger, flow, seed
        self._pace = pace
        """Records a second, of all partitions, now."""
        self._unacknowledged = 0
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Send everything; returns when all is acknowledged. Raises what the broker answered to a record."""
        options = client_options(self._stream.kafka)
        async with AIOKafkaProducer(enable_idempotence=True, linger_ms=5, **options) as producer:
            async with asyncio.TaskGroup() as partitions:
                for partition in range(self._stream.partitions):
                    partitions.create_task(self._feed(producer, partition))
            await producer.flush()
        if self._error:
            raise self._error

    async def _feed(self, producer: AIOKafkaProducer, partition: int) -> None:
        sent, credit, last_s = self._flow.sent, 0.0, time.monotonic()
        while sent[partition] < self._flow.each:
            await asyncio.sleep(TICK_S)
            if self._error:
                raise self._error
            now_s, rate = time.monotonic(), self._pace() / self._stream.partitions
            credit, last_s = min(rate, credit + rate * (now_s - last_s)), now_s
            if self._flow.lag > MAX_LAG_RECORDS:
                continue
            for _ in range(min(int(credit), self._flow.each - sent[partition])):
                credit -= 1
                number = sent[partition] * self._stream.partitions + partition
                value = item(self._seed, number).value
                future = await producer.send(self._stream.topics.input, value, partition=partition)
                future.add_done_callback(partial(self._acknowledged, number))
                sent[partition] += 1

    def _acknowledged(self, number: int, future: "asyncio.Future[Any]") -> None:
        try:
            where = future.result()
            self._ledger.note(number, where.partition, where.offset)
        except Exception as error:  # noqa: BLE001 - raised again by the feed
            self._error = self._error or error


async def read_all(stream: Stream, isolation_level: str, topics: Sequence[str]) -> AsyncIterator[list[Any]]:
    """All records of these topics up to their present ends, in batches, in order by partition."""
    async with AIOKafkaConsumer(isolation_level=isolation_level, **client_options(stream.kafka)) as consumer:
        partitions = [TopicPartition(name, number) for name in topics for number in range(stream.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            yield [record for batch in (await consumer.getmany(timeout_ms=200)).values() for record in batch]


async def log_ends(stream: Stream) -> dict[int, int]:
    """The input's next offsets, by partition."""
    partitions = [TopicPartition(stream.topics.input, number) for number in range(stream.partitions)]
    async with AIOKafkaConsumer(**client_options(stream.kafka)) as consumer:
        return {tp.partition: end for tp, end in (await consumer.end_offsets(partitions)).items()}


async def verify(stream: Stream, ledger: Ledger) -> Verdict:
    """The oracle's verdict on all results, dead letters and the audit; it pulls them, in a thread, as it judges."""
    loop = asyncio.get_running_loop()
    topics = stream.topics
    batches = read_all(stream, "read_committed", (topics.results, topics.dead_letter, topics.audit))

    async def batch() -> list[Any] | None:
        return await anext(batches, None)

    def records() -> Iterator[Any]:
        while (fetched := asyncio.run_coroutine_threadsafe(batch(), loop).result()) is not None:
            yield from fetched

    return await asyncio.to_thread(judge, ledger, records(), AUDIT_SHARE)


async def hidden_records(stream: Stream) -> int:
    """Output records of aborted transactions, which no read_committed reader sees."""
    counts = []
    for isolation_level in ("read_uncommitted", "read_committed"):
        counts.append(sum([len(batch) async for batch in read_all(stream, isolation_level, stream.topics.outputs)]))
    return counts[0] - counts[1]
