"""How long readers wait: a table of faults and silences, measured on three brokers and two workers.

    python -m tests.faults.silence --faults half_open latency

A partition is to show results again at most the session timeout and 5 s after the fault's end, whatever it was. Exits
with 1 where one did not.
"""

import argparse
import asyncio
import itertools
import logging
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.broker.node import Node
from streamgauge.groups import transactional_id
from streamgauge.kafka import client_options
from streamgauge.settings import KafkaSettings, LogSettings
from streamgauge.telemetry import set_up_logging
from tests.cluster import Stream, until
from tests.faults.lanes import Lane, bound_port, free_ports, listeners_of
from tests.faults.proxy import Mode, Proxy
from tests.faults.replica import Replica
from tests.faults.soak_cluster import ask, in_sync
from worker.settings import WorkerSettings

NODES, WORKERS, PARTITIONS, MORE_PARTITIONS = 3, 2, 6, 9
GOAL_S = WorkerSettings().session_timeout_s + 5
PUBLISHED_PER_S = 60
CUT_S, DEAD_S = 30.0, 20.0
STEADY_S = 3.0
GIVEN_UP_S = 240.0


@dataclass
class Watch:
    """When a read_committed reader saw results, by partition, on the monotonic clock."""

    seen_s: dict[int, list[float]] = field(default_factory=lambda: {number: [] for number in range(PARTITIONS)})

    async def run(self, stream: Stream) -> None:
        async with AIOKafkaConsumer(isolation_level="read_committed", **client_options(stream.kafka)) as reader:
            while True:
                partitions = [TopicPartition(stream.topics.results, number) for number in self.seen_s]
                if set(partitions) != reader.assignment():
                    reader.assign(partitions)
                    await reader.seek_to_end(*partitions)
                for tp in await reader.getmany(timeout_ms=100):
                    self.seen_s[tp.partition].append(time.monotonic())

    async def flowing(self, since_s: float) -> None:
        """Wait until each partition has shown results after this moment."""
        async with asyncio.timeout(GIVEN_UP_S):
            await until(lambda: all(seen and seen[-1] > since_s for seen in self.seen_s.values()))

    def silence_s(self, since_s: float) -> tuple[float, float]:
        """The longest time without any result, and the longest of one partition."""
        own = [[since_s, *(at for at in seen if at > since_s)] for seen in self.seen_s.values()]
        every = sorted(itertools.chain.from_iterable(own))
        longest = [max(later - earlier for earlier, later in itertools.pairwise(each)) for each in (every, *own)]
        return longest[0], max(longest[1:])

    def back_s(self, ended_s: float) -> float:
        """From the fault's end until the last partition showed a result."""
        return max(next(at for at in seen if at > ended_s) for seen in self.seen_s.values()) - ended_s


@dataclass
class Scene:
    """What a fault befalls."""

    kafka: EmbeddedKafka
    proxies: Sequence[Proxy]
    stream: Stream
    watch: Watch

    async def _coordinator(self) -> Node:
        source = TopicPartition(self.stream.topics.input, 0)
        node_id = await ask(
            self.stream, lambda admin: admin.find_coordinator(transactional_id(self.stream.group, source), 1)
        )
        return self.kafka.nodes[int(node_id) - 1]

    async def _start(self, node: Node) -> None:
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(node.wait_ready, among=[each.id for each in self.kafka.nodes])

    async def rolling_restart(self) -> None:
        """Each broker is shut down cleanly and started again, one after the other."""
        for node in self.kafka.nodes:
            node.kill(signal.SIGTERM)
            await asyncio.to_thread(node.wait)
            await self._start(node)
            await in_sync(self.stream)

    async def coordinator_dead(self) -> None:
        """The broker that coordinates transactions is killed, and stays away for 20 s."""
        node = await self._coordinator()
        node.kill()
        await asyncio.sleep(DEAD_S)
        await self._start(node)

    async def restarted_at_once(self) -> None:
        """The broker that coordinates transactions is killed, and started again at once."""
        node = await self._coordinator()
        node.kill()
        await self._start(node)

    async def half_open(self) -> None:
        """For 30 s all bytes between workers and brokers are lost, and no connection ends."""
        await self._network(Mode.SWALLOW)

    async def latency(self) -> None:
        """For 30 s bytes take 300 ms, with jitter."""
        await self._network(Mode.SLOW)

    async def _network(self, mode: Mode) -> None:
        for proxy in self.proxies:
            await proxy.switch(mode)
        await asyncio.sleep(CUT_S)
        for proxy in self.proxies:
            await proxy.switch(Mode.PASS)

    async def partitions_added(self) -> None:
        """The topics get three more partitions, the input last."""
        await self.stream.grow(MORE_PARTITIONS, *self.stream.topics.outputs, self.stream.topics.input)
        self.watch.seen_s |= {number: [] for number in range(PARTITIONS, MORE_PARTITIONS)}


Fault = Callable[[Scene], Awaitable[None]]
FAULTS: dict[str, Fault] = {
    "rolling_restart": Scene.rolling_restart,
    "coordinator_dead": Scene.coordinator_dead,
    "restarted_at_once": Scene.restarted_at_once,
    "half_open": Scene.half_open,
    "latency": Scene.latency,
    "partitions_added": Scene.partitions_added,
}


async def publish(stream: Stream, watch: Watch) -> None:
    """Texts, in turn to each partition, for ever."""
    async with AIOKafkaProducer(metadata_max_age_ms=1000, **client_options(stream.kafka)) as producer:
        for number in itertools.count():
            partitions = await producer.partitions_for(stream.topics.input)
            await producer.send(stream.topics.input, b"text %d" % number, partition=number % len(partitions))
            await asyncio.sleep(1 / PUBLISHED_PER_S)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Brokers, workers behind proxies, a feed, and a reader that watches."""
    async with AsyncExitStack() as stack:
        lanes = [Lane(stack.enter_context(bound_port()), port) for port in free_ports(NODES)]
        kafka = EmbeddedKafka(nodes=NODES, settings=lambda node_id: listeners_of([lanes[node_id - 1]]))
        await asyncio.to_thread(kafka.start)
        stack.callback(kafka.stop)
        proxies = [await stack.enter_async_context(lane.proxy()) for lane in lanes]
        stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
        behind = Stream(
            KafkaSettings(bootstrap_servers=",".join(lane.bootstrap_servers for lane in lanes)),
            stream.topics,
            stream.group,
            PARTITIONS,
        )
        for number in range(WORKERS):
            await stack.enter_async_context(Replica(behind, f"worker-{number}", folder))
        watch = Watch()
        tasks = [asyncio.ensure_future(publish(stream, watch)), asyncio.ensure_future(watch.run(stream))]
        for task in tasks:
            stack.callback(task.cancel)
        await watch.flowing(time.monotonic() + STEADY_S)
        yield Scene(kafka, proxies, stream, watch)


async def measure(name: str, folder: Path) -> tuple[float, float, float]:
    """The longest silence of all partitions and of one, and how long after the fault's end the last was back."""
    async with scene(folder) as struck:
        began_s = time.monotonic()
        await FAULTS[name](struck)
        ended_s = time.monotonic()
        await struck.watch.flowing(ended_s)
        back_s = struck.watch.back_s(ended_s)
        await struck.watch.flowing(time.monotonic() + STEADY_S)
        return *struck.watch.silence_s(began_s), back_s


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.silence", description=__doc__.split("\n")[0])
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="default: all")
    names = parser.parse_args().faults
    set_up_logging(LogSettings(level="error"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    print(f"{'fault':20} {'all, s':>8} {'one, s':>8} {'back after, s':>14}   goal {GOAL_S:g} s", flush=True)
    late = 0
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"streamgauge-silence-{name}-"))
        every_s, one_s, back_s = asyncio.run(measure(name, folder))
        late += back_s > GOAL_S
        print(f"{name:20} {every_s:8.1f} {one_s:8.1f} {back_s:14.1f}", flush=True)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
