"""What transactions cost: the worker as it is against one that sends the same records without them.

    python -m tests.benchmarks.transactions [--partitions 4 12 48] [--texts 4000] [--rounds 3]

Both variants score the bundled sample with the default model, in a process of their own, in turn, on the embedded
Kafka. Wall time shares the cores with the broker; CPU seconds are the worker's alone. Latency is from a text's
timestamp to its result in a read_committed reader's hands, at 40 texts a second.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from producer.corpus import bundled
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import decode_prediction
from streamgauge.kafka import client_options
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from streamgauge.telemetry import set_up_logging
from tests.cluster import Stream
from worker.model.session import OnnxModel
from worker.output import OutputRecord
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.transaction import OffsetAfter, send_in_order

VARIANTS = ("transactions", "plain")
PACED_TEXTS, PACED_PER_S = 400, 40


class PlainWriter:
    """Idempotent sends of the same records, awaited; no transaction, no offset."""

    def __init__(self, producer: AIOKafkaProducer, partition: int) -> None:
        self._producer, self._partition = producer, partition

    async def commit(self, records: Sequence[OutputRecord], _offset_after: OffsetAfter) -> None:
        by_topic: dict[str, list[OutputRecord]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        sends = (send_in_order(self._producer, topic, self._partition, own) for topic, own in by_topic.items())
        await asyncio.gather(*sends)


@asynccontextmanager
async def plain_writer(kafka: KafkaSettings, tp: TopicPartition) -> AsyncIterator[PlainWriter]:
    producer = AIOKafkaProducer(
        enable_idempotence=True, acks="all", max_batch_size=512 * 1024, compression_type="lz4", **client_options(kafka)
    )
    async with producer:
        yield PlainWriter(producer, tp.partition)


def work(variant: str, bootstrap_servers: str, prefix: str) -> None:
    """The process under test."""
    set_up_logging(LogSettings(level="error"))
    kafka, topics = KafkaSettings(bootstrap_servers=bootstrap_servers), TopicSettings(prefix=prefix)
    settings = WorkerSettings(group=prefix)
    model = OnnxModel.load(settings.model_dir, settings.max_tokens)
    worker = Worker(kafka, topics, settings, CollectorRegistry(), model)
    open_writer = None if variant == "transactions" else lambda tp: plain_writer(kafka, tp)
    run(lambda stop: worker.run(stop, open_writer))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far (Linux)."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Results:
    """A reader of results: how many it has seen, and the latencies of all in seconds."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.latencies_s: list[float] = []

    async def seen(self, count: int) -> int:
        """Read until there are at least `count`; returns how many there are."""
        while len(self.latencies_s) < count:
            for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                now_s = time.time()
                stamps = [decode_prediction(record.value).source.timestamp_ms / 1000 for record in records]
                self.latencies_s += [now_s - stamp_s for stamp_s in stamps]
        return len(self.latencies_s)


async def publish(producer: AIOKafkaProducer, stream: Stream, texts: int, per_s: float | None) -> None:
    samples = itertools.islice(itertools.cycle(bundled()), texts)
    start_s = time.time()
    for number, sample in enumerate(samples):
        if per_s:
            await asyncio.sleep(max(0.0, start_s + number / per_s - time.time()))
        await producer.send(stream.topics.input, sample.text.encode(), partition=number % stream.partitions)
    await producer.flush()


async def measure(bootstrap_servers: str, variant: str, partitions: int, texts: int) -> dict[str, float]:
    """One run: a full input, then a paced one."""
    stream = await Stream.create(bootstrap_servers, partitions)
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=2) as producer,
        AIOKafkaConsumer(
            stream.topics.results,
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        ) as consumer,
    ):
        results = Results(consumer)
        await publish(producer, stream, texts, None)
        command = [sys.executable, "-m", "tests.benchmarks.transactions", "--work", variant]
        process = await asyncio.create_subprocess_exec(*command, bootstrap_servers, stream.topics.prefix)
        warm = await results.seen(texts // 10)
        began_s, began_cpu_s = time.time(), cpu_s(process.pid)
        await results.seen(texts)
        wall_s, used_s = time.time() - began_s, cpu_s(process.pid) - began_cpu_s
        paced = asyncio.ensure_future(publish(producer, stream, PACED_TEXTS, PACED_PER_S))
        await results.seen(texts + PACED_TEXTS)
        await paced
        process.send_signal(signal.SIGTERM)
        await process.wait()
    ordered = sorted(results.latencies_s[texts:])
    return {
        "texts_per_s": (texts - warm) / wall_s,
        "cpu_s_per_1000": used_s / (texts - warm) * 1000,
        "latency_p50_s": ordered[len(ordered) // 2],
        "latency_p99_s": ordered[int(len(ordered) * 0.99)],
    }


async def compare(partitions: Sequence[int], texts: int, rounds: int) -> list[dict[str, Any]]:
    """All runs, variants in turn; medians by partitions and variant."""
    rows = []
    with EmbeddedKafka() as kafka:
        for count in partitions:
            runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
            for _round, variant in itertools.product(range(rounds), VARIANTS):
                runs[variant].append(await measure(kafka.bootstrap_servers, variant, count, texts))
            for variant, measured in runs.items():
                medians = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
                rows.append({"partitions": count, "variant": variant, **medians})
                print(json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in rows[-1].items()}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, nargs="+", default=[4, 12, 48])
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=3, metavar=("VARIANT", "SERVERS", "PREFIX"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    rows = asyncio.run(compare(options.partitions, options.texts, options.rounds))
    for with_, without in zip(rows[::2], rows[1::2], strict=True):
        cost = with_["cpu_s_per_1000"] / without["cpu_s_per_1000"] - 1
        slower = 1 - with_["texts_per_s"] / without["texts_per_s"]
        print(f"{with_['partitions']:3} partitions: {cost:+.1%} CPU, {slower:+.1%} throughput lost")


if __name__ == "__main__":
    main()
