"""The faults of a soak, in two lanes that run side by side: what befalls workers, and what befalls brokers.

A fault ends when the stream is over it. Where the fault itself holds output back (`overdue`: a frozen worker whose
session lasts; `produce_error`: a topic that refuses records) that time does not count as recovery, of no blow.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.broker.node import Node
from streamgauge.groups import transactional_id
from streamgauge.provisioning import apply
from streamgauge.topics import OUTPUT_MARGIN_BYTES, Change
from tests.cluster import Stream, until
from tests.faults.replica import Replica
from tests.faults.soak_cluster import ask, in_sync
from tests.faults.soak_fleet import END_TIMEOUT_S, SETTINGS, Findings, Post
from tests.faults.soak_stream import Flow, Strike
from tests.faults.worker_process import STEPS

SESSION_S: float = SETTINGS["session_timeout_s"]
BROKER_TIMEOUT_S: float = SETTINGS["transaction_timeout_s"] + 5
"""The transaction's timeout at the broker, which has a margin over the worker's."""
OPEN_STEPS = ("sent", "offsets", "committing")
"""Inside a transaction that the broker knows of."""
STUCK_S = 60.0
"""A stream that is not over a blow by then is left to the next one; the blow's recovery goes on being measured."""
OVERDUE = {"session_timeout_s": 30, "transaction_timeout_s": 2}


@dataclass
class Faults:
    """What can be done to a soak. Every choice comes from `dice`."""

    kafka: EmbeddedKafka
    stream: Stream
    posts: Sequence[Post]
    flow: Flow
    log_dir: Path
    dice: random.Random
    findings: Findings
    guests: int = 0
    running: list[str] = field(default_factory=list)

    async def inject(self, kind: str) -> None:
        """Do it, and wait until the stream is over it (at most `STUCK_S`)."""
        self.running.append(kind)
        before = len(self.flow.strikes)
        await {**WORKER_FAULTS, **BROKER_FAULTS}[kind](self)
        ended_s, is_alone = time.monotonic(), len(self.running) == 1
        blows = [strike for strike in self.flow.strikes[before:] if strike.kind == kind]
        with suppress(TimeoutError):
            async with asyncio.timeout(STUCK_S):
                await until(lambda: all(strike.recovery_s is not None for strike in blows))
        if is_alone and len(self.running) == 1:
            self.findings.silences_s.append(time.monotonic() - ended_s)
        self.running.remove(kind)

    async def _post(self) -> Post:
        """Any replica that has something to lose."""
        post = self.dice.choice(self.posts)
        await post.working()
        return post

    def _pause(self, least_s: float, most_s: float) -> Awaitable[None]:
        return asyncio.sleep(self.dice.uniform(least_s, most_s))

    async def _hit(self, kind: str, post: Post, number: signal.Signals) -> Strike:
        await post.send(number)
        return self.flow.strike(kind)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._hit("kill", await self._post(), signal.SIGKILL)

    async def freeze(self) -> None:
        """SIGSTOP for 1 to 2.5 sessions: the zombie wakes up when its partitions are others'."""
        post = await self._post()
        await self._hit("freeze", post, signal.SIGSTOP)
        await self._pause(SESSION_S, 2.5 * SESSION_S)
        await post.send(signal.SIGCONT)

    async def term(self) -> None:
        """SIGTERM."""
        await self._hit("term", await self._post(), signal.SIGTERM)

    async def rolling(self) -> None:
        """SIGTERM to one after the other; the next when the new one works."""
        for post in self.posts:
            await post.working()
            before = post.started
            await self._hit("rolling", post, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await until(lambda post=post, before=before: post.started > before)  # type: ignore[misc]
        await self.posts[-1].working()

    async def storm(self) -> None:
        """Replicas that join the group and leave it, or die, within a second; two or three at a time."""
        async with asyncio.TaskGroup() as guests:
            for _ in range(self.dice.randint(2, 3)):
                guests.create_task(self._visit(self.dice.choice([signal.SIGTERM, signal.SIGKILL])))
                await self._pause(0, 1)

    async def _visit(self, farewell: signal.Signals) -> None:
        self.guests += 1
        name = f"guest-{self.guests}"
        async with AsyncExitStack() as stack:
            guest = await stack.enter_async_context(Replica(self.stream, name, self.log_dir, settings=SETTINGS))
            await guest.logged("worker.started")
            self.flow.strike("storm")
            await self._pause(0, 1)
            guest.send(farewell)
            self.flow.strike("storm")
            try:
                async with asyncio.timeout(END_TIMEOUT_S):
                    code = await guest.ended()
            except TimeoutError:
                self.findings.problems.append(f"{name} was still there {END_TIMEOUT_S:.0f} s after {farewell.name}")
            else:
                if code != (0 if farewell == signal.SIGTERM else -9):
                    self.findings.exits.append(f"{name} ended with exit code {code} after {farewell.name}")

    async def takeover(self) -> None:
        """SIGKILL, and SIGKILL to another while it takes over."""
        first, second = self.dice.sample(list(self.posts), 2)
        await first.working()
        await second.working()
        await self._hit("takeover", first, signal.SIGKILL)
        await self._pause(0, 1.5 * SESSION_S)
        await self._hit("takeover", second, signal.SIGKILL)

    async def torn(self) -> None:
        """SIGKILL at a chosen step of a transaction or of a fence."""
        step = self.dice.choice(sorted(STEPS))
        post, nth = await self._post(), 1 if STEPS[step][0] == "start" else self.dice.randint(2, 20)
        await post.replace(step=step, nth=nth, signal="SIGKILL")
        armed = post.started
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await until(lambda: post.started > armed)
        self.flow.strike("torn")

    async def open(self) -> None:
        """SIGSTOP inside a transaction for longer than the broker leaves it open; meanwhile others take over."""
        post = await self._frozen_inside({})
        self.flow.strike("open")
        await asyncio.sleep(BROKER_TIMEOUT_S + 1.5)
        await post.send(signal.SIGCONT)

    async def overdue(self) -> None:
        """The same, but the session lasts: the broker ends the transaction of a worker that still has its partition."""
        post = await self._frozen_inside(OVERDUE)
        self.flow.strike("overdue")
        with self.flow.held():
            await asyncio.sleep(OVERDUE["transaction_timeout_s"] + 5 + 1.5)
            await post.send(signal.SIGCONT)
        await self._pause(0, 2)
        await post.replace()

    async def _frozen_inside(self, settings: dict[str, Any]) -> Post:
        """A replica that is stopped inside a transaction."""
        post = await self._post()
        step, nth = self.dice.choice(OPEN_STEPS), self.dice.randint(2, 20)
        await post.replace(step=step, nth=nth, signal="SIGSTOP", settings=settings)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await (await post.replica()).frozen()
        return post

    async def undelivered(self) -> None:
        """A worker's client gives up one batch of results inside a transaction."""
        post = await self._post()
        await post.replace(fail_delivery=self.dice.randint(2, 20))
        await post.logged("transaction.failed")
        self.flow.strike("undelivered")

    async def produce_error(self) -> None:
        """Results are refused for a while, as too large, inside transactions whose other records pass."""
        for post in self.posts:
            await post.replica()
        self.flow.strike("produce_error")
        with self.flow.held():
            await self._limit_results(200)
            await self._pause(0.5, 2)
            await self._limit_results(self.stream.topics.max_message_bytes + OUTPUT_MARGIN_BYTES)

    async def _limit_results(self, size_bytes: int) -> None:
        change = Change(self.stream.topics.results, "", config={"max.message.bytes": str(size_bytes)})
        await ask(self.stream, lambda admin: apply(admin, change, 0))

    async def broker_term(self) -> None:
        """A broker is shut down cleanly, and comes back."""
        await self._broker("broker_term", signal.SIGTERM)

    async def broker_kill(self) -> None:
        """A broker dies, and comes back."""
        await self._broker("broker_kill", signal.SIGKILL)

    async def broker_restart(self) -> None:
        """The broker that coordinates the group or a partition's transactions dies, and is started again at once.

        As systemd and Kubernetes do it: the others have not missed it yet, so when it is back it may still lead. They
        stand still for a moment before, so that the end of its log is in no other.
        """
        await in_sync(self.stream)
        node = await ask(self.stream, self._coordinator)
        others = [each for each in self.kafka.nodes if each is not node]
        for other in others:
            other.kill(signal.SIGSTOP)
        await self._pause(0, 0.3)
        node.kill()
        for other in others:
            other.kill(signal.SIGCONT)
        self.flow.strike("broker_restart")
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(node.wait_ready, among=[each.id for each in self.kafka.nodes])
        await in_sync(self.stream)

    async def _broker(self, kind: str, number: signal.Signals) -> None:
        await in_sync(self.stream)
        node = await ask(self.stream, self._leader)
        node.kill(number)
        self.flow.strike(kind)
        await asyncio.to_thread(node.wait)
        await self._pause(0.5, 4)
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(node.wait_ready, among=[each.id for each in self.kafka.nodes])
        await in_sync(self.stream)

    async def _leader(self, admin: AIOKafkaAdminClient) -> Node:
        """The node that leads an input or output partition, or coordinates the group or a partition's transactions."""
        role = self.dice.choice(["input", "output", "coordinator", "coordinator"])
        if role == "coordinator":
            return await self._coordinator(admin)
        name = self.stream.topics.input if role == "input" else self.dice.choice(self.stream.topics.outputs)
        partition = self.dice.randrange(self.stream.partitions)
        [topic] = await admin.describe_topics([name])
        node_id: int
        [node_id] = [each["leader"] for each in topic["partitions"] if each["partition"] == partition]
        return self.kafka.nodes[node_id - 1]

    async def _coordinator(self, admin: AIOKafkaAdminClient) -> Node:
        """The node that coordinates the group, or the transactions of one of its partitions."""
        source = TopicPartition(self.stream.topics.input, self.dice.randrange(self.stream.partitions))
        if self.dice.choice(["group", "transactions"]) == "group":
            node_id: int = await admin.find_coordinator(self.stream.group)
        else:
            node_id = await admin.find_coordinator(transactional_id(self.stream.group, source), 1)
        return self.kafka.nodes[node_id - 1]


Fault = Callable[[Faults], Awaitable[None]]
WORKER_FAULTS: dict[str, Fault] = {
    "kill": Faults.kill,
    "freeze": Faults.freeze,
    "term": Faults.term,
    "rolling": Faults.rolling,
    "storm": Faults.storm,
    "takeover": Faults.takeover,
    "torn": Faults.torn,
    "open": Faults.open,
    "overdue": Faults.overdue,
    "undelivered": Faults.undelivered,
    "produce_error": Faults.produce_error,
}
BROKER_FAULTS: dict[str, Fault] = {
    "broker_term": Faults.broker_term,
    "broker_kill": Faults.broker_kill,
    "broker_restart": Faults.broker_restart,
}
