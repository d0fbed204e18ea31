"""What a text takes on a broker's disk, before replication: `python -m tests.benchmarks.sizes`.

Texts are published as a producer without keys does, and scored by a worker with default settings while they queue up;
then each topic's segments are measured. Less load means smaller transactions, and up to twice as much a result.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from streamgauge.broker.embedded import EmbeddedKafka
from tests.benchmarks.measuring import PARTITIONS, Results
from tests.benchmarks.processes import module, started
from tests.benchmarks.texts import texts_of
from tests.cluster import Stream
from tests.oracle import Input

TEXTS = {"short": 2000, "mixed": 800, "long": 160}


def stored_bytes(data_dir: Path, topic: str) -> int:
    """The segments of all partitions, on the one node there is."""
    return sum(path.stat().st_size for path in data_dir.glob(f"node-1/data/{topic}-*/*.log"))


async def measure(servers: str, data_dir: Path, name: str, log: Path) -> dict[str, float]:
    """Bytes a text: as it is, and by topic."""
    stream, texts = await Stream.create(servers, PARTITIONS), texts_of(name, TEXTS[name])
    environment = stream.worker_environment | {"STREAMGAUGE_LOG_FORMAT": "json"}
    async with (
        Results.of(stream) as results,
        started(module("worker"), os.sched_getaffinity(0), log, environment),
    ):
        await stream.publish([Input(text.encode(), 0.0) for text in texts])
        await results.until(len(texts))
    topics = {"input": stream.topics.input, "results": stream.topics.results, "metrics": stream.topics.metrics}
    sizes = {what: stored_bytes(data_dir, topic) / len(texts) for what, topic in topics.items()}
    return {"text": sum(len(text.encode()) for text in texts) / len(texts), **sizes}


async def measure_all(servers: str, folder: Path) -> None:
    print("| texts | bytes of text | input topic | results topic | metrics topic |\n|---|--:|--:|--:|--:|")
    for name in TEXTS:
        found = await measure(servers, folder / "kafka", name, folder / f"{name}.log")
        print(f"| {name} | {' | '.join(f'{size:.0f}' for size in found.values())} |", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="streamgauge-sizes-") as name:
        folder = Path(name)
        with EmbeddedKafka(data_dir=folder / "kafka") as kafka:
            asyncio.run(measure_all(kafka.bootstrap_servers, folder))


if __name__ == "__main__":
    main()
