"""What a listener can take, on a real Kafka in one process tree: `python -m tests.benchmarks.listener`.

Fills the topics with results and labels, lets a real listener process read them (a rebuild), scrapes it all the while,
starts it again on its file, and then sends more labels to it. Prints a table, and with `--json` one JSON object.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import ModelRef, Position, Prediction, Timings, encode
from tests.cluster import Stream
from tests.faults.listeners import ListenerProcess

PARTITIONS = 4
AUDIT_EVERY = 100
SCRAPE_EVERY_S = 0.25
MARK = b"the id"


def template() -> bytes:
    """A result as the worker writes it, with MARK in place of its id."""
    return encode(
        Prediction(
            id=MARK.decode(),
            label="POSITIVE",
            score=0.98213,
            scores={"NEGATIVE": 0.01787, "POSITIVE": 0.98213},
            model=ModelRef(name="distilbert-sst2-compact", version="1.0.0", digest=f"sha256:{'0' * 64}"),
            timings=Timings(tokenize_s=0.001, queue_s=0.01, infer_s=0.003),
            source=Position(topic="sentiment.input", partition=1, offset=123_456, timestamp_ms=1_700_000_000_000),
            tokens=23,
            truncated=False,
        )
    )


def ids(count: int, kind: str) -> Iterator[bytes]:
    """`position`: as texts without an id get them, neighbours in neighbouring records; `uuid`: in no order at all."""
    for number in range(count):
        yield (
            b"sentiment.input-%d-%d" % (number % PARTITIONS, number // PARTITIONS)
            if kind == "position"
            else (uuid.uuid4().hex.encode())
        )


class Filler:
    """Publishes results, a label for every `label_every`-th of them, and every AUDIT_EVERY-th to the audit; 0: none."""

    def __init__(self, stream: Stream, label_every: int) -> None:
        self._label_every = label_every
        self._topics = stream.topics
        self._producer = Producer(
            {
                "bootstrap.servers": stream.kafka.bootstrap_servers,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
            }
        )

    def fill(self, count: int, kind: str) -> list[bytes]:
        """Returns the ids that are labelled."""
        before, after = template().split(MARK)
        headers = [(name, b"x" * 20) for name in ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time")]
        labelled = []
        for number, name in enumerate(ids(count, kind)):
            self._send(self._topics.results, before + name + after, name, number % PARTITIONS, headers)
            if number % AUDIT_EVERY == 0:
                self._send(self._topics.audit, before + name + after, name, number % PARTITIONS, headers)
            if self._label_every and number % self._label_every == 0:
                self.label(name)
                labelled.append(name)
        self._producer.flush()
        return labelled

    def label_again(self, names: list[bytes], count: int) -> None:
        """Corrections of random predictions, old and new."""
        for name in random.Random(1).choices(names, k=count) if count else ():
            self.label(name, b"NEGATIVE")
        self._producer.flush()

    def label(self, name: bytes, label: bytes = b"POSITIVE") -> None:
        value = b'{"id":"%s","label":"%s","source":"anna"}' % (name, label)
        self._send(self._topics.feedback, value, name, zlib.crc32(name) % PARTITIONS, None)

    def _send(self, topic: str, value: bytes, key: bytes, partition: int, headers: Any) -> None:
        while True:
            try:
                return self._producer.produce(topic, value, key, partition, headers=headers)
            except BufferError:
                self._producer.poll(0.05)


class Watch:
    """Scrapes a listener from its start on: how long each scrape took, and how much memory it has at most."""

    def __init__(self, listener: ListenerProcess) -> None:
        self._listener = listener
        self.scrapes_ms: list[float] = []
        self.rss_mb = 0.0
        self.samples: dict[str, float] = {}

    async def until_ready(self) -> None:
        async with aiohttp.ClientSession(await self._listener.url()) as http:
            while True:
                await self.scrape(http)
                if self.samples["streamgauge_listener_ready"]:
                    return
                await asyncio.sleep(SCRAPE_EVERY_S)

    async def until_labels(self, labels: int) -> None:
        """Wait until it has counted so many labels."""
        async with aiohttp.ClientSession(await self._listener.url()) as http:
            while self.samples.get("streamgauge_labels", 0) < labels:
                await self.scrape(http)
                await asyncio.sleep(SCRAPE_EVERY_S)

    async def scrape(self, http: aiohttp.ClientSession) -> None:
        began_s = time.perf_counter()
        async with http.get("/metrics") as answer:
            text = await answer.text()
        self.scrapes_ms.append((time.perf_counter() - began_s) * 1000)
        self.samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples[sample.name] = self.samples.get(sample.name, 0) + sample.value
        self.rss_mb = max(self.rss_mb, self.samples["process_resident_memory_bytes"] / 1e6)

    @property
    def cpu_s(self) -> float:
        return self.samples["process_cpu_seconds_total"]


async def measure(records: int, kind: str, label_every: int, late_labels: int) -> dict[str, Any]:
    """Rebuild, restart, and labels for what was read before, with one listener; figures by name."""
    with EmbeddedKafka() as kafka, TemporaryDirectory(prefix="streamgauge-") as folder:
        stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
        filler = Filler(stream, label_every)
        names = await asyncio.to_thread(filler.fill, records, kind)
        began_s = time.monotonic()
        async with ListenerProcess(stream, Path(folder)) as listener:
            watch = Watch(listener)
            await watch.until_ready()
            rebuild_s = time.monotonic() - began_s
            rebuild_cpu_s = watch.cpu_s
            scrapes_ms = sorted(watch.scrapes_ms)
            began_s = time.monotonic()
            await listener.restart()
            again = Watch(listener)
            await again.until_ready()
            restart_s = time.monotonic() - began_s
            labels = round(again.samples["streamgauge_labels"])
            began_s = time.monotonic()
            late_labels = late_labels if names else 0
            await asyncio.to_thread(filler.label_again, names, late_labels)
            await again.until_labels(labels + late_labels)
            labels_s = time.monotonic() - began_s
            size_mb = again.samples["streamgauge_listener_store_bytes"] / 1e6
    read = records + labels
    return {
        "ids": kind,
        "predictions": records,
        "labels": labels,
        "rebuild_s": round(rebuild_s, 1),
        "rebuild_records_per_s": round(read / rebuild_s),
        "rebuild_cpu_us_per_record": round(rebuild_cpu_s / read * 1e6, 1),
        "restart_s": round(restart_s, 1),
        "late_labels_per_s": round(late_labels / labels_s),
        "scrape_ms_median": round(statistics.median(scrapes_ms), 1),
        "scrape_ms_p99": round(scrapes_ms[int(len(scrapes_ms) * 0.99)], 1),
        "scrape_ready_ms_median": round(statistics.median(again.scrapes_ms[-20:]), 1),
        "rss_mb": round(max(watch.rss_mb, again.rss_mb)),
        "store_mb": round(size_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--ids", choices=("position", "uuid"), nargs="+", default=["position", "uuid"])
    parser.add_argument("--label-every", type=int, default=5, help="a label for each so many results; 0: none")
    parser.add_argument("--late-labels", type=int, default=100_000, help="sent to what has been read")
    parser.add_argument("--json", action="store_true", help="end with one JSON array")
    arguments = parser.parse_args()
    found = []
    for count in arguments.predictions:
        for kind in arguments.ids:
            figures = asyncio.run(measure(count, kind, arguments.label_every, arguments.late_labels))
            print("  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
            found.append(figures)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
