"""What a process says of an outage: by its log, in few lines, and by its probes, in time."""

import asyncio
import itertools
import json
import sys
from bisect import bisect_left
from collections import Counter
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from feedback_listener.topic_reader import FETCH_TIMEOUT_S
from streamgauge.http import LOOK_EVERY_S
from streamgauge.log_folding import FIRST_S, LINES
from streamgauge.settings import KafkaSettings
from tests.cluster import Stream, until
from tests.echo import EchoModel
from tests.faults.conftest import FaultyKafka
from tests.faults.lanes import Lane
from tests.faults.listeners import ListenerProcess
from tests.faults.proxy import HangingProxy, Mode
from tests.faults.replica import Replica
from tests.oracle import generate
from worker import lag
from worker.service import Worker
from worker.settings import WorkerSettings

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="replicas are watched through /proc"),
]

PARTITIONS = 8
RECOVERY_S = 2.5 * FETCH_TIMEOUT_S
"""What was sent into a black hole has to be given up, whatever the network does by then."""
OFFSETS_OF_THE_GROUP = (8, 9, 11, 12, 13, 14, 28)
"""Kafka's api keys: OffsetCommit, OffsetFetch, JoinGroup, Heartbeat, LeaveGroup, SyncGroup, TxnOffsetCommit."""
TRANSACTIONS = (22, 24, 25, 26)
"""InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn."""


def busiest(log: str) -> tuple[int, Counter[str]]:
    """The most lines within FIRST_S, less what the wall clock may be set by meanwhile, and all events."""
    events = [json.loads(line) for line in log.splitlines()]
    times_s = sorted(datetime.fromisoformat(event["timestamp"]).timestamp() for event in events)
    most = max(bisect_left(times_s, at_s + 0.99 * FIRST_S) - number for number, at_s in enumerate(times_s))
    return most, Counter(event["event"] for event in events)


async def feed(stream: Stream, stop: asyncio.Event) -> None:
    """Texts for all partitions, by a way that is not hurt; a producer that is cancelled while it starts stays open."""
    for seed in itertools.count():
        if stop.is_set():
            return
        await stream.publish(generate(5 * PARTITIONS, seed=seed))


async def seen_ready(url: str) -> None:
    """Ready, and looked at since: from then on it tells when it is not."""
    async with aiohttp.ClientSession(url) as http:
        while (await http.get("/readyz")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await asyncio.sleep(2 * LOOK_EVERY_S)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [Mode.DROP, Mode.SWALLOW], ids=["gone", "black hole"])
async def test_an_outage_is_few_lines(faulty_kafka: FaultyKafka, tmp_path: Path, mode: Mode) -> None:
    """However many partitions there are; that the broker is away, and that it is back, is a line each."""
    stream, lane = await Stream.create(faulty_kafka.bootstrap_servers, PARTITIONS), faulty_kafka.lanes[1]
    behind = Stream(KafkaSettings(bootstrap_servers=lane.bootstrap_servers), stream.topics, stream.group, PARTITIONS)
    async with (
        lane.proxy() as proxy,
        Replica(behind, "worker", tmp_path, holds=False, log_level="info") as worker,
        ListenerProcess(behind, tmp_path, log_level="info") as listener,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(feed(stream, enough := asyncio.Event()))
        await stream.read(at_least=20 * PARTITIONS)
        await asyncio.gather(seen_ready(await worker.url()), seen_ready(await listener.url()))
        before = len(worker.log), len(listener.log)
        await proxy.switch(mode)
        await worker.logged('"service.not_ready"')
        await until(lambda: '"kafka.connection_lost"' in listener.log)
        await proxy.switch(Mode.PASS)
        async with asyncio.timeout(RECOVERY_S):
            await worker.logged('"service.ready_again"')
            await until(lambda: '"kafka.connected_again"' in listener.log)
        enough.set()
        logs = worker.log[before[0] :], listener.log[before[1] :]
    for log in logs:
        most, events = busiest(log)
        assert most <= LINES, events
        assert events["kafka.connection_lost"] >= 1
        assert events["kafka.connected_again"] >= 1
    assert '"partitions": ' in logs[0], "nothing was folded: this has proved nothing"


class Scene:
    """A worker behind a broker of which some requests hang."""

    def __init__(self, stream: Stream, lane: Lane) -> None:
        kafka = KafkaSettings(bootstrap_servers=lane.bootstrap_servers)
        self.stream, self.stop = Stream(kafka, stream.topics, stream.group, stream.partitions), asyncio.Event()
        settings = WorkerSettings(group=stream.group, session_timeout_s=6, transaction_timeout_s=2)
        self.worker = Worker(kafka, stream.topics, settings, CollectorRegistry(), EchoModel())

    async def becomes(self, unready_for: str) -> None:
        """Not ready, because of this; alive all the same, for a new process could not do more."""
        await until(lambda: unready_for in (self.worker.ready() or ""))
        assert self.worker.live() is None

    async def recovers(self) -> None:
        await until(lambda: self.worker.ready() is None)


async def test_a_group_whose_coordinator_hangs_is_no_ready_worker(
    faulty_kafka: FaultyKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while no text comes: nothing that came could be committed."""
    monkeypatch.setattr(lag, "SILENT_S", 3.0)
    monkeypatch.setattr(lag, "ASK_EVERY_S", 0.2)
    stream, lane = await Stream.create(faulty_kafka.bootstrap_servers), faulty_kafka.lanes[0]
    async with HangingProxy(lane.port, lane.broker_port) as proxy, asyncio.TaskGroup() as tasks:
        scene = Scene(stream, lane)
        tasks.create_task(scene.worker.run(scene.stop))
        await scene.recovers()
        proxy.hold(*OFFSETS_OF_THE_GROUP)
        await scene.becomes("no broker has answered for")
        proxy.hold()
        await scene.recovers()
        scene.stop.set()


async def test_transactions_that_hang_are_no_ready_worker(faulty_kafka: FaultyKafka) -> None:
    """As soon as there is something to commit; what came meanwhile is committed when they go on."""
    stream, lane = await Stream.create(faulty_kafka.bootstrap_servers), faulty_kafka.lanes[0]
    async with HangingProxy(lane.port, lane.broker_port) as proxy, asyncio.TaskGroup() as tasks:
        scene = Scene(stream, lane)
        tasks.create_task(scene.worker.run(scene.stop))
        await scene.recovers()
        proxy.hold(*TRANSACTIONS)
        await stream.publish(generate(20, seed=1))
        await scene.becomes("partitions cannot be committed")
        proxy.hold()
        await stream.read(at_least=20)
        await scene.recovers()
        scene.stop.set()
