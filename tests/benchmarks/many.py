"""What very many partitions cost one worker: `python -m tests.benchmarks.many 100 300 1000`.

For each number: how long `topics create` takes, and a worker until it has opened all partitions; its memory and open
files then; how long the next one takes after it was killed, and to stop. Embedded Kafka, one node. Linux only.
"""

import argparse
import asyncio
import os
import re
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from streamgauge.broker.embedded import EmbeddedKafka
from tests.benchmarks.processes import module, rss_mb, started
from tests.cluster import Stream

COLUMNS = ("partitions", "create, s", "open, s", "MB", "open files", "open again, s", "stop, s")
PATIENCE_S = 1800.0


def opened(log: Path) -> int:
    """The partitions that a worker has opened so far."""
    return len(set(re.findall(r'"partition": (\d+), .*"event": "partition.opened"', log.read_text())))


async def opening_s(log: Path, partitions: int) -> float:
    """Seconds until all are open."""
    began_s = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while opened(log) < partitions:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.2)
    return time.monotonic() - began_s


async def measure(servers: str, partitions: int, folder: Path) -> list[float]:
    """One row of the table."""
    began_s = time.monotonic()
    stream = await Stream.create(servers, partitions)
    row = [partitions, time.monotonic() - began_s]
    # At debug no line is folded: each partition has its own.
    logging = {"STREAMGAUGE_LOG_FORMAT": "json", "STREAMGAUGE_LOG_LEVEL": "debug"}
    environment: Mapping[str, str] = stream.worker_environment | logging
    cores = os.sched_getaffinity(0)
    logs = [folder / f"{stream.group}-{life}.log" for life in range(2)]
    async with started(module("worker"), cores, logs[0], environment) as process:
        row += [await opening_s(logs[0], partitions), rss_mb(process.pid)]
        row.append(len(os.listdir(f"/proc/{process.pid}/fd")))
        process.kill()
        await process.wait()
    async with started(module("worker"), cores, logs[1], environment) as process:
        row.append(await opening_s(logs[1], partitions))
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        row.append(time.monotonic() - began_s)
    return row


async def measure_all(servers: str, numbers: list[int], folder: Path) -> None:
    print(f"| {' | '.join(COLUMNS)} |\n|{'--:|' * len(COLUMNS)}")
    for partitions in numbers:
        row = await measure(servers, partitions, folder)
        print(f"| {' | '.join(f'{value:.0f}' for value in row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("partitions", type=int, nargs="+")
    numbers = parser.parse_args().partitions
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory(prefix="streamgauge-many-") as folder:
        asyncio.run(measure_all(kafka.bootstrap_servers, numbers, Path(folder)))


if __name__ == "__main__":
    main()
