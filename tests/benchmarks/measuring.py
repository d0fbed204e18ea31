"""One run of one contestant: from texts handed over to all of them answered, in seconds, CPU seconds and memory."""

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks.contestants import Counts, Plan
from tests.benchmarks.processes import cpu_s, module, peak_rss_mb, started
from tests.cluster import Stream

PARTITIONS = 4
WARM_UP_TEXTS = 16
"""Through the whole path before the clock starts: connections, caches, the runtime's memory."""
WARM_UP_TIMEOUT_S = 60


class Missing(Exception):  # noqa: N818 - an answer, not a fault
    """A contestant that cannot run here, and why."""


@dataclass(frozen=True)
class Run:
    """What one run cost. `padding_share` is of the tokens computed."""

    texts: int
    texts_per_s: float
    cpu_s_per_1000: float
    rss_mb: float
    batch_texts: float
    padding_share: float


class Clock:
    """Wall and CPU seconds of a process since the clock was made."""

    def __init__(self, pid: int) -> None:
        self._pid, self._began_s, self._began_cpu_s = pid, time.perf_counter(), cpu_s(pid)

    def run(self, done: Counts) -> Run:
        """Stop."""
        wall_s, used_s = time.perf_counter() - self._began_s, cpu_s(self._pid) - self._began_cpu_s
        return Run(
            texts=done.texts,
            texts_per_s=done.texts / wall_s,
            cpu_s_per_1000=used_s / done.texts * 1000,
            rss_mb=peak_rss_mb(self._pid),
            batch_texts=done.texts / done.batches,
            padding_share=1 - done.tokens / done.padded_tokens,
        )


async def without_kafka(command: Sequence[str], texts: int, cores: set[int], log: Path) -> Run:
    """A contestant that has read its texts from a file and is told over its standard input when to begin."""
    async with started(command, cores, log) as process:
        assert process.stdin
        assert process.stdout
        if await process.stdout.readline() != b"ready\n":
            raise Missing(last_words(log))
        clock = Clock(process.pid)
        process.stdin.write(b"\n")
        run = clock.run(msgspec.json.decode(await process.stdout.readline(), type=Counts))
        assert run.texts == texts
        return run


def last_words(log: Path) -> str:
    """The last line of a log."""
    return (log.read_text().strip().splitlines() or ["it ended without a word"])[-1]


class Results:
    """A reader of committed results."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.count = 0

    @classmethod
    @asynccontextmanager
    async def of(cls, stream: Stream) -> AsyncIterator["Results"]:
        consumer = AIOKafkaConsumer(
            stream.topics.results,
            bootstrap_servers=stream.kafka.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        async with consumer:
            yield cls(consumer)

    async def until(self, count: int) -> None:
        """Read until there are so many; more are a fault."""
        while self.count < count:
            fetched = await self._consumer.getmany(timeout_ms=1000)
            self.count += sum(map(len, fetched.values()))
        assert self.count == count


async def publish(producer: AIOKafkaProducer, topic: str, texts: Sequence[str], partitions: int = PARTITIONS) -> None:
    """All texts at once, spread over the partitions, in few requests: the clock is the contestant's."""

    async def fill(partition: int) -> None:
        remaining = list(reversed(texts[partition::partitions]))
        while remaining:
            batch = producer.create_batch()
            while remaining and batch.append(key=None, value=remaining[-1].encode(), timestamp=None):
                remaining.pop()
            await (await producer.send_batch(batch, topic, partition=partition))

    await asyncio.gather(*(fill(partition) for partition in range(partitions)))


async def on_kafka(
    name: str, bootstrap_servers: str, plan: Plan, texts: Sequence[str], cores: set[int], log: Path
) -> Run:
    """The worker as it is, or the naive one, on topics of its own, until all results are committed."""
    stream = await Stream.create(bootstrap_servers, PARTITIONS)
    is_worker = name == "worker"
    environment = stream.worker_environment | {
        "STREAMGAUGE_WORKER_MODEL_DIR": plan.model_dir,
        "STREAMGAUGE_LOG_FORMAT": "json",
    }
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers, max_batch_size=2**20) as producer,
        Results.of(stream) as results,
        started(module("worker") if is_worker else _naive(plan, stream), cores, log, environment) as process,
    ):
        warm_up = texts[:WARM_UP_TEXTS]
        await publish(producer, stream.topics.input, warm_up)
        async with asyncio.timeout(WARM_UP_TIMEOUT_S):
            await results.until(len(warm_up))
        count = metrics_counts if is_worker else logged_counts
        before, clock = await asyncio.to_thread(count, log), Clock(process.pid)
        await publish(producer, stream.topics.input, texts)
        await results.until(len(warm_up) + len(texts))
        run = clock.run((await asyncio.to_thread(count, log)).since(before))
        assert run.texts == len(texts)
        return run


def _naive(plan: Plan, stream: Stream) -> list[str]:
    own = {"bootstrap_servers": stream.kafka.bootstrap_servers, "prefix": stream.topics.prefix, "group": stream.group}
    return module(
        "tests.benchmarks.contestants", "naive", msgspec.json.encode(msgspec.structs.replace(plan, **own)).decode()
    )


def metrics_counts(log: Path) -> Counts:
    """The worker's own counters, from the port that its log names."""
    [port] = re.findall(r'"port": (\d+)', log.read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("batch_texts_sum", "batch_texts_count", "tokens_total", "padded_tokens_total")
    return Counts(*(round(float(values[f"streamgauge_{name}"])) for name in names))


def logged_counts(log: Path) -> Counts:
    """What the naive worker wrote last."""
    return msgspec.json.decode(log.read_text().splitlines()[-1], type=Counts)


def as_file(texts: Sequence[str], folder: Path) -> Path:
    """A JSON list."""
    path = folder / "texts.json"
    path.write_text(json.dumps(texts))
    return path
