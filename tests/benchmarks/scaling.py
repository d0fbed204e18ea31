"""What a further replica brings, and what it costs to take one away: `python -m tests.benchmarks.scaling`.

    steps      texts come faster than one replica scores them: results a second, lag and the reader's longest wait with
               1, 2, … replicas and back again
    cycles     at a share of one replica's capacity, all replicas but one come and go by SIGTERM, again and again: what
               the reader sees of it; and the oracle's verdict on every record. Exits with 1 if it is not clean, or if
               the reader had to wait longer than 2 s

A replica has one core, the next one the next core; Kafka and this process have the cores that are left, and where none
is left they share the last. Linux only. Embedded Kafka, the default model.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streamgauge.broker.embedded import EmbeddedKafka
from tests.benchmarks.flowing import Feed, Reader, Window, inputs, percentile_s
from tests.benchmarks.processes import module, started
from tests.benchmarks.service import ready
from tests.cluster import Stream, until
from tests.oracle import Verdict, judge
from worker.settings import WorkerSettings

PARTITIONS = 6
SATURATING_TEXTS = 3000
SETTLE_S = 3.0
"""Between a hand-over, after which all partitions show results again, and a window in which nothing is done."""
LONGEST_WAIT_S = 2.0


def cores_of(cores: Sequence[int], replicas: int) -> tuple[list[int], set[int]]:
    """Each replica's core, and the cores of Kafka and of this process."""
    return [cores[number % len(cores)] for number in range(replicas)], set(cores[replicas:] or cores[-1:])


class Crew:
    """Replicas of one group, each on its core; they come one after another, and the last one goes first."""

    def __init__(self, stream: Stream, cores: Sequence[int], model_dir: Path, folder: Path) -> None:
        self._environment = stream.worker_environment | {
            "STREAMGAUGE_WORKER_MODEL_DIR": str(model_dir),
            "STREAMGAUGE_LOG_FORMAT": "json",
        }
        self._cores, self._folder, self._started = cores, folder, 0
        self._running: list[tuple[asyncio.subprocess.Process, AsyncExitStack]] = []

    async def become(self, replicas: int) -> None:
        """Start or stop some, all of them at once; returns when those are ready, or have ended with 0."""
        coming = [await self._start(number) for number in range(len(self._running), replicas)]
        await asyncio.gather(*(ready(log) for log in coming))
        going = [self._running.pop() for _ in range(len(self._running) - replicas)]
        for process, _stack in going:
            process.send_signal(signal.SIGTERM)
        for process, stack in going:
            code = await process.wait()
            await stack.aclose()
            assert code == 0, f"a replica ended with {code} after SIGTERM"

    async def _start(self, number: int) -> Path:
        self._started += 1
        log = self._folder / f"replica-{number}-{self._started}.log"
        stack = AsyncExitStack()
        process = await stack.enter_async_context(
            started(module("worker"), {self._cores[number]}, log, self._environment)
        )
        self._running.append((process, stack))
        return log

    async def close(self) -> None:
        """Whatever state they are in."""
        for _process, stack in self._running:
            await stack.aclose()


@dataclass
class Bench:
    """A stream that is fed, worked on and read."""

    stream: Stream
    feed: Feed
    reader: Reader
    crew: Crew

    @property
    def lag(self) -> int:
        return self.feed.sent - self.reader.seen

    async def capacity(self) -> float:
        """Texts a second that one replica scores when it has more than enough of them."""
        await self.crew.become(1)
        async with AIOKafkaProducer(bootstrap_servers=self.stream.kafka.bootstrap_servers, linger_ms=5) as producer:
            await self.feed.send(producer, self.stream.partitions)
            await until(lambda: self.lag == 0)
            await self.feed.send(producer, SATURATING_TEXTS)
            await producer.flush()
            began_s, seen = time.monotonic(), self.reader.seen
            await until(lambda: self.lag == 0)
        return (self.feed.sent - seen) / (time.monotonic() - began_s)

    async def steps(self, replicas: int, step_s: float, per_s: float) -> list[dict[str, float]]:
        """More and more replicas, and back to one."""
        self.feed.per_s, rows = per_s, []
        for count in [*range(1, replicas + 1), *range(replicas - 1, 0, -1)]:
            await self.crew.become(count)
            await self.reader.flowing()
            lag = self.lag
            with self.reader.window() as window:
                await asyncio.sleep(step_s)
            rows.append(
                {
                    "replicas": count,
                    "texts_per_s": per_s,
                    "results_per_s": window.results_per_s,
                    "lag_before": lag,
                    "lag_after": self.lag,
                    "longest_wait_s": window.longest_wait_s(self.stream.partitions),
                }
            )
            print("steps:", json.dumps(rows[-1]), flush=True)
        return rows

    async def cycles(self, replicas: int, cycles: int, per_s: float) -> dict[str, float]:
        """One replica, all of them, one again, so many times."""
        self.feed.per_s = 0
        await until(lambda: self.lag == 0)
        self.feed.per_s = per_s
        quiet: list[Window] = []
        joins: list[Window] = []
        stops: list[Window] = []
        for cycle in range(cycles):
            for count, windows in ((replicas, joins), (1, stops)):
                with self.reader.window() as window:
                    await self.crew.become(count)
                    await self.reader.flowing()
                    await asyncio.sleep(SETTLE_S)
                windows.append(window)
                with self.reader.window() as window:
                    await asyncio.sleep(SETTLE_S)
                quiet.append(window)
            longest_s = max(each.longest_wait_s(self.stream.partitions) for each in (joins[-1], stops[-1]))
            print(f"cycles: {cycle + 1} of {cycles}, longest wait {longest_s:.2f} s", flush=True)
        figures: dict[str, float] = {"cycles": cycles, "texts_per_s": per_s}
        for name, windows in (("undisturbed", quiet), ("joining", joins), ("stopping", stops)):
            figures[f"{name}_p50_ms"] = percentile_s(windows, 0.5) * 1000
            figures[f"{name}_p99_ms"] = percentile_s(windows, 0.99) * 1000
            figures[f"{name}_longest_wait_s"] = max(each.longest_wait_s(self.stream.partitions) for each in windows)
        return figures

    async def verdict(self) -> Verdict:
        """Of everything that was sent."""
        return judge(self.feed.inputs, await self.stream.outputs(at_least=len(self.feed.inputs)))


@asynccontextmanager
async def bench(servers: str, cores: Sequence[int], model_dir: Path, folder: Path) -> AsyncIterator[Bench]:
    """Everything running but the replicas; at the end the feed is acknowledged to the last text."""
    stream, stop = await Stream.create(servers, PARTITIONS), asyncio.Event()
    feed, reader = Feed(stream, await asyncio.to_thread(inputs, model_dir)), Reader(stream)
    crew = Crew(stream, cores, model_dir, folder)
    try:
        async with asyncio.TaskGroup() as tasks:
            reading, feeding = tasks.create_task(reader.run()), tasks.create_task(feed.run(stop))
            yield Bench(stream, feed, reader, crew)
            stop.set()
            await feeding
            reading.cancel()
    finally:
        await crew.close()


async def measure(options: argparse.Namespace, servers: str, cores: Sequence[int], folder: Path) -> dict[str, Any]:
    async with bench(servers, cores, options.model_dir, folder) as running:
        capacity = await running.capacity()
        print(f"capacity of one replica: {capacity:.0f} texts/s", flush=True)
        steps = await running.steps(options.replicas, options.step, options.overload * capacity)
        cycles = await running.cycles(options.replicas, options.cycles, options.share * capacity)
        running.feed.per_s = 0
        await until(lambda: running.lag == 0)
        verdict = await running.verdict()
    faults = {name: len(getattr(verdict, name)) for name in ("lost", "doubled", "wrong", "out_of_order")}
    records = len(running.feed.inputs)
    return {"capacity_per_s": capacity, "steps": steps, "cycles": cycles, "records": records, "faults": faults}


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| replicas | texts/s | results/s | lag, from | to | reader's longest wait, s |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["steps"]:
        numbers = (row["replicas"], row["texts_per_s"], row["results_per_s"], row["lag_before"], row["lag_after"])
        lines.append(f"| {' | '.join(f'{number:.0f}' for number in numbers)} | {row['longest_wait_s']:.2f} |")
    lines += ["", "| during cycles | p50 ms | p99 ms | reader's longest wait, s |", "|---|--:|--:|--:|"]
    for name in ("undisturbed", "joining", "stopping"):
        p50, p99, wait = (result["cycles"][f"{name}_{what}"] for what in ("p50_ms", "p99_ms", "longest_wait_s"))
        lines.append(f"| {name} | {p50:.0f} | {p99:.0f} | {wait:.2f} |")
    return "\n".join([*lines, "", f"{result['records']} records: {json.dumps(result['faults'])}"])


def passes(result: dict[str, Any]) -> bool:
    """Nothing lost, doubled, wrong or out of order, and no wait that a reader would notice."""
    waits_s = (result["cycles"][f"{name}_longest_wait_s"] for name in ("joining", "stopping"))
    return not any(result["faults"].values()) and max(waits_s) <= LONGEST_WAIT_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=3, help="at most")
    parser.add_argument("--step", type=float, default=30, help="seconds that each number of replicas is measured for")
    parser.add_argument("--overload", type=float, default=1.3, help="load of the steps, in capacities of one replica")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.4, help="load of the cycles, in capacities of one replica")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--model-dir", type=Path, default=WorkerSettings().model_dir)
    options = parser.parse_args()
    own, others = cores_of(sorted(os.sched_getaffinity(0)), options.replicas)
    os.sched_setaffinity(0, others)
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory(prefix="streamgauge-scaling-") as folder:
        result = asyncio.run(measure(options, kafka.bootstrap_servers, own, Path(folder)))
    print(table(result))
    if options.json:
        print(json.dumps(result))
    return 0 if passes(result) else 1


if __name__ == "__main__":
    sys.exit(main())
