"""A stream of texts at a steady rate, and its reader: what came of each text, when, and how long the reader waited."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamgauge.events import decode_prediction
from tests.benchmarks.texts import texts_of
from tests.cluster import Stream, until
from tests.oracle import Input
from worker.model.session import OnnxModel
from worker.settings import WorkerSettings

DISTINCT_TEXTS = 200
TICK_S = 0.02


class Near(float):
    """A probability but for its last digits, which a batch may change."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - other) < 1e-6

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__


def inputs(model_dir: Path) -> list[Input]:
    """Short texts, with what this model makes of each alone."""
    model = OnnxModel.load(model_dir, WorkerSettings().max_tokens)
    positive = model.labels.index("POSITIVE")
    texts = texts_of("short", DISTINCT_TEXTS)
    return [
        Input(text.encode(), Near(model.score([ids])[0][positive]))
        for text, (ids, _truncated) in zip(texts, model.encode(texts), strict=True)
    ]


@dataclass(frozen=True)
class Arrival:
    """Results of one partition that came to the reader together."""

    at_s: float
    partition: int
    latencies_s: tuple[float, ...]


@dataclass
class Window:
    """What the reader saw from `began_s` to `ended_s`, on the monotonic clock."""

    began_s: float
    ended_s: float = math.inf
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def results_per_s(self) -> float:
        return sum(len(arrival.latencies_s) for arrival in self.arrivals) / (self.ended_s - self.began_s)

    def longest_wait_s(self, partitions: int) -> float:
        """The longest time without a result of some partition, into which texts come all the time."""
        times: dict[int, list[float]] = {partition: [self.began_s] for partition in range(partitions)}
        for arrival in self.arrivals:
            times[arrival.partition].append(arrival.at_s)
        return max(later - earlier for each in times.values() for earlier, later in pairwise([*each, self.ended_s]))


def percentile_s(windows: Sequence[Window], share: float) -> float:
    """Of the latencies of all these windows."""
    latencies_s = sorted(each for window in windows for arrival in window.arrivals for each in arrival.latencies_s)
    return latencies_s[min(len(latencies_s) - 1, int(len(latencies_s) * share))]


class Reader:
    """Follows the committed results of a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.seen = 0
        self._open: list[Window] = []

    async def run(self) -> None:
        options = {"bootstrap_servers": self._stream.kafka.bootstrap_servers, "auto_offset_reset": "earliest"}
        topic = self._stream.topics.results
        async with AIOKafkaConsumer(topic, isolation_level="read_committed", **options) as consumer:
            while True:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    now_s = time.time()
                    stamps_ms = [decode_prediction(record.value).source.timestamp_ms for record in records]
                    latencies_s = tuple(now_s - stamp_ms / 1000 for stamp_ms in stamps_ms)
                    self.seen += len(records)
                    for window in self._open:
                        window.arrivals.append(Arrival(time.monotonic(), tp.partition, latencies_s))

    @contextmanager
    def window(self) -> Iterator[Window]:
        """All that is seen inside the block."""
        window = Window(time.monotonic())
        self._open.append(window)
        try:
            yield window
        finally:
            window.ended_s = time.monotonic()
            self._open.remove(window)

    async def flowing(self) -> None:
        """Wait until each partition has shown a result from now on."""
        with self.window() as window:
            await until(lambda: len({arrival.partition for arrival in window.arrivals}) == self._stream.partitions)


class Feed:
    """Sends texts at `per_s`, to one partition after the other, and notes where each came to stand."""

    def __init__(self, stream: Stream, texts: Sequence[Input]) -> None:
        self._stream, self._texts = stream, texts
        self.per_s, self.sent = 0.0, 0
        self.inputs: dict[tuple[int, int], Input] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and all is acknowledged."""
        async with AIOKafkaProducer(bootstrap_servers=self._stream.kafka.bootstrap_servers, linger_ms=5) as producer:
            due, last_s = 0.0, time.monotonic()
            while not stop.is_set():
                await asyncio.sleep(TICK_S)
                now_s = time.monotonic()
                due, last_s = due + self.per_s * (now_s - last_s), now_s
                due -= await self.send(producer, int(due))

    async def send(self, producer: AIOKafkaProducer, count: int) -> int:
        for _ in range(count):
            text, partition = self._texts[self.sent % len(self._texts)], self.sent % self._stream.partitions
            future = await producer.send(self._stream.topics.input, text.value, partition=partition)
            future.add_done_callback(partial(self._acknowledged, text))
            self.sent += 1
        return count

    def _acknowledged(self, text: Input, future: "asyncio.Future[Any]") -> None:
        where = future.result()
        self.inputs[where.partition, where.offset] = text
