"""What a worker costs besides its throughput: `python -m tests.benchmarks.service`.

    start      from the start of the process to /readyz, and to the first result
    idle       CPU share while nothing comes
    latency    from a text's timestamp to its result in a read_committed reader's hands, at a share of the saturating
               rate, texts coming at random moments: default settings at a half, the latency profile at a quarter
    scaling    CPU a text with one and two replicas, and with 4 and 48 partitions
    memory     peak RSS while as many texts of 512 tokens as may be are held
    endurance  RSS under full load, short texts and long ones, for `--minutes`; only when asked for

Pinned as in `make bench`: the workers on one core, Kafka and this process on the others. Linux only.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import decode_prediction
from tests.benchmarks.measuring import PARTITIONS, Results, publish
from tests.benchmarks.processes import cpu_s, module, peak_rss_mb, rss_mb, shared_out, started
from tests.benchmarks.texts import texts_of
from tests.cluster import Stream
from worker.settings import WorkerSettings

PARTS = ("start", "idle", "latency", "scaling", "memory")
ENDURANCE = "endurance"
IDLE_S = 10
PACED_S, PACED_BEFORE_S = 30, 5
WARM_UP_TEXTS = 800
SATURATING_TEXTS = 3000
WAVE_TEXTS = 5000
LONGEST_TEXT = "a fine film " * 400


class Bench:
    """One Kafka, and the cores of the workers."""

    def __init__(self, bootstrap_servers: str, cores: set[int], folder: Path, model_dir: Path) -> None:
        self._bootstrap_servers, self._cores, self._folder = bootstrap_servers, cores, folder
        self._model = {"STREAMGAUGE_WORKER_MODEL_DIR": str(model_dir)}

    @asynccontextmanager
    async def workers(
        self, replicas: int = 1, partitions: int = PARTITIONS, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator["Fleet"]:
        """Workers that have all joined and scored one text a partition."""
        stream = await Stream.create(self._bootstrap_servers, partitions)
        environment = stream.worker_environment | {"STREAMGAUGE_LOG_FORMAT": "json"} | self._model
        environment.update(settings or {})
        began_s = time.perf_counter()
        async with AsyncExitStack() as stack:
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap_servers, max_batch_size=2**20)
            await stack.enter_async_context(producer)
            results = await stack.enter_async_context(Results.of(stream))
            logs = [self._folder / f"{stream.group}-{number}.log" for number in range(replicas)]
            processes = [
                await stack.enter_async_context(started(module("worker"), self._cores, log, environment))
                for log in logs
            ]
            fleet = Fleet(stream, producer, results, [process.pid for process in processes])
            await asyncio.gather(*(ready(log) for log in logs))
            fleet.ready_s = time.perf_counter() - began_s
            await fleet.score(["warm"] * partitions)
            fleet.first_result_s = time.perf_counter() - began_s
            yield fleet

    async def start(self) -> dict[str, float]:
        async with self.workers() as fleet:
            return {"ready_s": fleet.ready_s, "first_result_s": fleet.first_result_s}

    async def idle(self) -> dict[str, float]:
        async with self.workers() as fleet:
            before = fleet.cpu_s
            await asyncio.sleep(IDLE_S)
            return {"cpu_share": (fleet.cpu_s - before) / IDLE_S}

    async def latency(self, load: float, settings: Mapping[str, str]) -> dict[str, float]:
        """At `load` times the rate at which short texts saturate the same worker."""
        texts = texts_of("short", SATURATING_TEXTS)
        async with self.workers(settings=settings) as fleet:
            began_s = time.perf_counter()
            await fleet.score(texts)
            per_s = load * len(texts) / (time.perf_counter() - began_s)
            await fleet.pace(texts[: round(per_s * PACED_BEFORE_S)], per_s)
            latencies_s = await fleet.pace(texts_of("short", round(per_s * PACED_S)), per_s)
        ordered = sorted(latencies_s)
        p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        return {"texts_per_s": per_s, "p50_ms": p50 * 1000, "p99_ms": p99 * 1000}

    async def cpu_us_a_text(self, replicas: int, partitions: int) -> float:
        texts = texts_of("short", SATURATING_TEXTS)
        async with self.workers(replicas, partitions) as fleet:
            await fleet.score(texts[:WARM_UP_TEXTS])
            before = fleet.cpu_s
            await fleet.score(texts)
            return (fleet.cpu_s - before) / len(texts) * 1e6

    async def memory(self) -> dict[str, float]:
        """More texts than the worker may hold, each longer than the model reads."""
        async with self.workers() as fleet:
            task = asyncio.ensure_future(fleet.score([LONGEST_TEXT] * 5000))
            seen = 0
            while seen < 200:  # by then it has fetched all that it may
                await asyncio.sleep(1)
                seen = fleet.results.count
            task.cancel()
            return {"rss_mb": max(peak_rss_mb(pid) for pid in fleet.pids)}

    async def endurance(self, minutes: float) -> dict[str, float]:
        """Wave after wave of more texts than the worker may hold; RSS in MB after each."""
        texts = texts_of("bimodal", WAVE_TEXTS)
        samples_mb: list[float] = []
        end_s = time.monotonic() + minutes * 60
        async with self.workers() as fleet:
            [pid] = fleet.pids
            while time.monotonic() < end_s:
                await fleet.score(texts)
                samples_mb.append(rss_mb(pid))
                print(f"endurance: {len(samples_mb) * WAVE_TEXTS} texts, RSS {samples_mb[-1]:.0f} MB", flush=True)
            quarter = max(1, len(samples_mb) // 4)
            return {
                "texts": len(samples_mb) * WAVE_TEXTS,
                "rss_mb_first_quarter": statistics.median(samples_mb[:quarter]),
                "rss_mb_last_quarter": statistics.median(samples_mb[-quarter:]),
                "rss_mb_peak": peak_rss_mb(pid),
            }


class Fleet:
    """Workers on one stream."""

    ready_s = first_result_s = 0.0

    def __init__(self, stream: Stream, producer: AIOKafkaProducer, results: Results, pids: Sequence[int]) -> None:
        self.stream, self._producer, self.results, self.pids = stream, producer, results, pids

    @property
    def cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))

    async def score(self, texts: Sequence[str]) -> None:
        """All at once, until all results are committed."""
        await publish(self._producer, self.stream.topics.input, texts, self.stream.partitions)
        await self.results.until(self.results.count + len(texts))

    async def pace(self, texts: Sequence[str], per_s: float) -> list[float]:
        """At random moments; returns each text's latency in seconds, by its own timestamp."""
        options = {"bootstrap_servers": self.stream.kafka.bootstrap_servers, "isolation_level": "read_committed"}
        async with AIOKafkaConsumer(self.stream.topics.results, auto_offset_reset="latest", **options) as consumer:
            await consumer.seek_to_end()
            sending = asyncio.ensure_future(self._send(texts, per_s))
            latencies_s: list[float] = []
            while len(latencies_s) < len(texts):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    now_s = time.time()
                    stamps_ms = (decode_prediction(record.value).source.timestamp_ms for record in records)
                    latencies_s += [now_s - stamp_ms / 1000 for stamp_ms in stamps_ms]
            await sending
            return latencies_s

    async def _send(self, texts: Sequence[str], per_s: float) -> None:
        dice, due_s = random.Random(1), time.time()
        for number, text in enumerate(texts):
            due_s += dice.expovariate(per_s)
            await asyncio.sleep(max(0.0, due_s - time.time()))
            partition = number % self.stream.partitions
            await self._producer.send(self.stream.topics.input, text.encode(), partition=partition)


async def ready(log: Path) -> None:
    """Wait until the worker whose log this is says that it is ready."""

    def is_ready() -> bool:
        port = re.search(r'"port": (\d+)', log.read_text())
        if port is None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/readyz", timeout=10):
                return True
        except urllib.error.HTTPError:
            return False

    while not await asyncio.to_thread(is_ready):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def scaling(bench: Bench, rounds: int) -> dict[str, dict[str, float]]:
    """Interleaved; medians."""
    shapes = {
        "1 replica, 4 partitions": (1, 4),
        "2 replicas, 4 partitions": (2, 4),
        "1 replica, 48 partitions": (1, 48),
    }
    measured: dict[str, list[float]] = {name: [] for name in shapes}
    for _round in range(rounds):
        for name, shape in shapes.items():
            measured[name].append(await bench.cpu_us_a_text(*shape))
    first = measured["1 replica, 4 partitions"]
    return {
        name: {
            "cpu_us_a_text": statistics.median(values),
            "ratio": statistics.median(mine / base for mine, base in zip(values, first, strict=True)),
        }
        for name, values in measured.items()
    }


async def measure(bench: Bench, parts: Sequence[str], rounds: int, minutes: float = 0) -> dict[str, Any]:
    """The parts asked for, one after the other; `rounds` of the scaling, `minutes` of the endurance."""
    runs: dict[str, Callable[[], Awaitable[Any]]] = {
        "start": bench.start,
        "idle": bench.idle,
        "latency, default settings, half load": lambda: bench.latency(0.5, {}),
        "latency, latency profile, quarter load": lambda: bench.latency(
            0.25, {"STREAMGAUGE_WORKER_PROFILE": "latency"}
        ),
        "scaling": lambda: scaling(bench, rounds),
        "memory": bench.memory,
        ENDURANCE: lambda: bench.endurance(minutes),
    }
    result = {}
    for name, part in runs.items():
        if name.split(",")[0] in parts:
            result[name] = await part()
            print(f"{name}: {json.dumps(result[name])}", flush=True)
    return result


def table(service: Mapping[str, Any]) -> str:
    """Markdown."""
    rows = (
        f"| {name} | {figure} | {value:.4g} |"
        for name, figures in service.items()
        for figure, value in _flat(figures).items()
    )
    return "\n".join(["| what | figure | |", "|---|---|--:|", *rows])


def _flat(figures: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in figures.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat.update({f"{name} {key}".strip(): number for key, number in inner.items()})
    return flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, ENDURANCE), default=PARTS)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison of replicas and partitions")
    parser.add_argument("--minutes", type=float, default=60, help="of the endurance")
    parser.add_argument("--model-dir", type=Path, default=WorkerSettings().model_dir)
    options = parser.parse_args()
    own, others = shared_out(sorted(os.sched_getaffinity(0)), 1)
    os.sched_setaffinity(0, others)
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory(prefix="streamgauge-bench-") as folder:
        bench = Bench(kafka.bootstrap_servers, own, Path(folder), options.model_dir)
        result = asyncio.run(measure(bench, options.parts, options.rounds, options.minutes))
    print(table(result))


if __name__ == "__main__":
    main()
