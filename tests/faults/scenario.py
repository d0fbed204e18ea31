"""One directed fault: a worker is struck at a step, others go on, it comes back, and everything is judged."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamgauge.kafka import admin_client
from streamgauge.settings import KafkaSettings
from tests.cluster import Stream, until
from tests.echo import echo_probability
from tests.faults.conftest import FaultyKafka
from tests.faults.holding_model import HOLD
from tests.faults.lanes import Lane
from tests.faults.proxy import Mode, Proxy
from tests.faults.replica import Replica
from tests.faults.steps import STRIKING
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import Input, Verdict, generate, judge

SETTINGS = {
    "session_timeout_s": 3,
    "transaction_timeout_s": 4,
    "drain_budget_s": 3,
    "commit_records": 50,
    "max_records": 100,
}
"""At most 100 records are in a worker, so that each partition's work takes several transactions."""
PATIENT = {"transaction_timeout_s": 30}
"""The group gives a silent worker up long before its transaction times out: the zombie comes back inside it."""
OPEN_TIMEOUT_S = 4.0
BATCH_BYTES = 2048
"""A transaction's results make several batches."""
RECORDS, LATER_RECORDS = 600, 100
RECOVERED_WITHIN_S = 30.0
"""From the end of the fault to everything being scored and committed, the worker that was hurt taking part."""
ENDED_WITHIN_S = 15.0
"""From SIGTERM to the exit: the drain budget, the closing of producers, leaving the group."""
EMPTY_WITHIN_S = 5.0
"""From the last exit to a group without members; one that did not say goodbye is gone with its session."""
OPENING = ("fencing", "fenced", "between")
"""Steps of a partition that is not open yet."""
GIVEN_UP = dict.fromkeys((*OPENING, "commit_sent"), "partition.reopening") | {"draining": "partition.closed"}
"""By step, the log event of a worker that has given up; elsewhere its transaction fails. A commit that was sent may be
that of an opening, which is no transaction of records."""


class Fault(StrEnum):
    """What happens at the step, and how it ends."""

    STOP = "SIGSTOP; another worker takes over and finishes; SIGCONT"
    KILL = "SIGKILL; a new process goes on"
    STALL = "the network holds all bytes; another worker takes over and finishes; they are delivered"
    RESET = "the network resets and refuses; another worker takes over and finishes; it heals"
    DROP = "the network drops and refuses until the worker has given up; it heals"
    BLIP = "the network drops and refuses until the worker has noticed; it heals"


CUTS = {Fault.STALL: Mode.STALL, Fault.RESET: Mode.RESET, Fault.DROP: Mode.DROP, Fault.BLIP: Mode.DROP}


@dataclass
class Scene:
    """The struck worker `a`, its stream, and whoever comes to help."""

    kafka: FaultyKafka
    lane: Lane | None
    step: str
    fault: Fault
    log_dir: Path
    a: Replica = field(init=False)
    verdict: Verdict = field(default_factory=Verdict)
    hidden: int = 0
    """Output records of aborted transactions: written, but not visible."""
    seconds: float = 0.0

    async def play(self) -> "Scene":
        """From the first record to the verdict; raises TimeoutError when something takes longer than stated."""
        began_s = time.monotonic()
        self.stream = await Stream.create(self.kafka.bootstrap_servers, partitions=2)
        inputs = await self.stream.publish(_texts(with_held=self.step == "draining"))
        self._replicas: list[Replica] = []
        async with AsyncExitStack() as self._stack:
            await self._strike()
            self._struck_log = len(self.a.log)
            await (self._cut(CUTS[self.fault]) if self.fault in CUTS else self._signalled())
            async with asyncio.timeout(RECOVERED_WITHIN_S):
                inputs |= await self.stream.publish(generate(LATER_RECORDS, seed=2))
                await self._done(RECORDS + LATER_RECORDS)
            await self._end()
        self.verdict = judge(inputs, await self.stream.outputs(), AUDIT_SHARE)
        self.hidden = await hidden_records(self.stream)
        self.seconds = time.monotonic() - began_s
        return self

    @property
    def failed(self) -> int:
        """Transactions that the struck worker itself saw fail: aborted or fenced."""
        return self.a.log.count('"transaction.failed"') if self.seconds else 0

    async def _start(self, instance: str, lane: Lane | None = None, **plan: Any) -> Replica:
        servers = (lane or self.kafka).bootstrap_servers
        stream = replace(self.stream, kafka=KafkaSettings(bootstrap_servers=servers))
        settings = SETTINGS | (PATIENT if self.fault in (Fault.STOP, Fault.STALL) else {})
        plan |= {"settings": settings, "max_batch_bytes": BATCH_BYTES, "open_timeout_s": OPEN_TIMEOUT_S}
        replica = await self._stack.enter_async_context(Replica(stream, instance, self.log_dir, **plan))
        self._replicas.append(replica)
        return replica

    async def _strike(self) -> None:
        """Start `a` and wait until it has been struck; what drains does so because another one comes."""
        if self.lane:
            self._proxy: Proxy = await self._stack.enter_async_context(self.lane.proxy())
        first = self.step in ("fetched", *OPENING, "draining")
        number = "SIGKILL" if self.fault is Fault.KILL else "SIGSTOP"
        # Each of the two partitions commits once when it is opened; a commit that fails must be one of texts.
        nth = 1 if first else 3 if self.step == "commit_sent" else 2
        self.a = await self._start("a", self.lane, step=self.step, nth=nth, signal=number)
        if self.step == "draining":
            await self.a.logged('"model.holding"')
            await self._start("b", holds=False)
        await (self.a.ended() if self.fault is Fault.KILL else self.a.frozen())
        assert STRIKING in self.a.log

    async def _others_finish(self) -> None:
        if len(self._replicas) == 1:
            await self._start("b", holds=False)
        await self._done(RECORDS)

    async def _signalled(self) -> None:
        await self._others_finish()
        if self.fault is Fault.STOP:
            self.a.send(signal.SIGCONT)
            await self._back()

    async def _cut(self, mode: Mode) -> None:
        """The network fails while the process stands still, so at exactly this step."""
        await self._proxy.switch(mode)
        self.a.send(signal.SIGCONT)
        if self.fault is Fault.BLIP:
            await until(lambda: "kafka.connection_lost" in self._log_since_strike)
        elif self.fault is Fault.DROP:
            # Meanwhile the other partition may be opening, and give up first.
            given_up = GIVEN_UP.get(self.step, "transaction.failed")
            await until(lambda: given_up in self._log_since_strike or self.a.has_ended)
        else:
            await self._others_finish()
        await self._proxy.switch(Mode.PASS)
        if self.fault in (Fault.STALL, Fault.RESET) or self.a.has_ended:
            await self._back()

    async def _back(self) -> None:
        """Wait until `a` is in the group again, or has exited in a way that has it restarted."""
        async with asyncio.timeout(RECOVERED_WITHIN_S):
            await until(lambda: '"group.assigned"' in self._log_since_strike or self.a.has_ended)
        if self.a.has_ended:
            assert await self.a.ended() == 1
            self._replicas.remove(self.a)
            await self._start("a-again", self.lane, holds=False)

    @property
    def _log_since_strike(self) -> str:
        return self.a.log[self._struck_log :]

    async def _done(self, records: int) -> None:
        await self.stream.all_committed(records // self.stream.partitions)

    async def _end(self) -> None:
        """All end in good order, and nobody is left in the group."""
        alive = [replica for replica in self._replicas if not replica.has_ended]
        async with asyncio.timeout(ENDED_WITHIN_S):
            for replica in alive:
                replica.send(signal.SIGTERM)
            assert [await replica.ended() for replica in alive] == [0] * len(alive)
        async with asyncio.timeout(EMPTY_WITHIN_S):
            await group_empty(self.stream)


def _texts(*, with_held: bool) -> list[Input]:
    inputs = generate(RECORDS, seed=1)
    if with_held:
        text = f"{HOLD} until the partitions are taken away"
        inputs[RECORDS // 4] = Input(text.encode(), echo_probability(text))
    return inputs


async def group_empty(stream: Stream) -> None:
    """Wait until the stream's group has no members."""
    async with admin_client(stream.kafka) as admin:
        while True:
            [response] = await admin.describe_consumer_groups([stream.group])
            [(_error, _group, state, _type, _protocol, members, *_)] = response.groups
            if state == "Empty" and not members:
                return
            await asyncio.sleep(0.05)


async def hidden_records(stream: Stream) -> int:
    """Output records that no `read_committed` reader sees, once every transaction has ended."""
    uncommitted, committed = [await _count(stream, level) for level in ("read_uncommitted", "read_committed")]
    return uncommitted - committed


async def _count(stream: Stream, isolation_level: str) -> int:
    partitions = [TopicPartition(name, number) for name in stream.topics.outputs for number in range(stream.partitions)]
    async with AIOKafkaConsumer(
        bootstrap_servers=stream.kafka.bootstrap_servers, isolation_level=isolation_level
    ) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        count = 0
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            count += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
        return count
