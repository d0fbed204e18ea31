"""Scripts that make one wrong order of things certain; the right worker comes through each of them clean."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import Stream
from tests.echo import echo_probability
from tests.faults.holding_model import HOLD, WAIT
from tests.faults.replica import Replica
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import BAD, Input, Verdict, generate, judge

PATIENT = {"session_timeout_s": 3, "transaction_timeout_s": 30, "commit_records": 50, "max_records": 100}
"""The group gives a frozen worker up long before its transaction times out: the zombie wakes inside it."""
ALONE = {"max_batch_tokens": 8, "model_slots": 2, "session_timeout_s": 6}
"""Each text below is a batch of its own, and one that is held leaves a model slot to the others."""
STEADY = {"session_timeout_s": 60}
"""The group keeps a frozen worker for as long as a script needs."""


@dataclass
class Script:
    """A stream of one partition and the workers on it: right ones, or all of the same wrong variant."""

    stream: Stream
    log_dir: Path
    variant: Mapping[str, Any]
    stack: AsyncExitStack
    inputs: dict[tuple[int, int], Input] = field(default_factory=dict)
    replicas: list[Replica] = field(default_factory=list)

    async def publish(self, inputs: Sequence[Input]) -> None:
        self.inputs |= await self.stream.publish(inputs)

    async def start(self, instance: str, settings: Mapping[str, Any], **plan: Any) -> Replica:
        replica = Replica(self.stream, instance, self.log_dir, settings=settings, **self.variant, **plan)
        self.replicas.append(replica)
        return await self.stack.enter_async_context(replica)

    async def all_committed(self) -> None:
        await self.stream.all_committed(len(self.inputs))

    async def end(self) -> Verdict:
        """Stop who is left, in good order, and judge."""
        alive = [replica for replica in self.replicas if not replica.has_ended]
        for replica in alive:
            replica.send(signal.SIGTERM)
        assert [await replica.ended() for replica in alive] == [0] * len(alive)
        return judge(self.inputs, await self.stream.outputs(), AUDIT_SHARE)


Play = Callable[[Script], Awaitable[None]]


async def run(play: Play, bootstrap_servers: str, log_dir: Path, variant: Mapping[str, Any]) -> Verdict:
    """One performance, with its own stream; an empty `variant` is the right worker."""
    stream = await Stream.create(bootstrap_servers, partitions=1)
    async with AsyncExitStack() as stack:
        script = Script(stream, log_dir, variant, stack)
        await play(script)
        return await script.end()


async def zombie(script: Script, step: str = "committing") -> None:
    """Freeze A at `step` of its second transaction, let B take over and finish, wake A."""
    await script.publish(generate(600, seed=11))
    a = await script.start("a", PATIENT, step=step, nth=2)
    await a.frozen()
    await script.start("b", PATIENT)
    await script.all_committed()
    a.send(signal.SIGCONT)
    await a.logged('"partition.closed"')
    await script.publish(generate(100, seed=12))
    await script.stream.read(at_least=len(script.inputs))
    assert script.variant or "ProducerFenced" in a.log, "the zombie was never fenced: this run tested nothing"


async def commit_before_the_fence(script: Script) -> None:
    """Freeze A before a commit and B before its fence; A commits and dies, only then B fences."""
    await script.publish(generate(600, seed=13))
    a = await script.start("a", PATIENT, step="committing", nth=2, then=("committed", 2, "SIGKILL"))
    await a.frozen()
    b = await script.start("b", STEADY, step="fencing")
    await b.frozen()
    a.send(signal.SIGCONT)
    assert await a.ended() == -signal.SIGKILL
    b.send(signal.SIGCONT)
    await script.all_committed()


async def kill_after_the_commit(script: Script) -> None:
    """A is killed as soon as a transaction is committed; B goes on."""
    await script.publish(generate(200, seed=14))
    a = await script.start("a", PATIENT, step="committed", nth=2, signal="SIGKILL")
    assert await a.ended() == -signal.SIGKILL
    await script.start("b", PATIENT)
    await script.all_committed()


async def kill_beside_a_gap(script: Script) -> None:
    """A finishes what comes before and after a text that never leaves its model, and is killed; B goes on."""
    await script.publish([*_texts(10), _marked(HOLD), *(Input(*bad) for bad in BAD)])
    a = await script.start("a", ALONE | {"session_timeout_s": 3})
    while ((await script.stream.committed())[0] or 0) < 10:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    a.send(signal.SIGKILL)
    assert await a.ended() == -signal.SIGKILL
    await script.start("b", ALONE, holds=False)
    await script.publish(_texts(5))
    await script.all_committed()


async def delivery_fails(script: Script) -> None:
    """The client gives up the first batch of results."""
    await script.publish(_texts(40))
    a = await script.start("a", {}, fail_delivery=1)
    await script.all_committed()
    assert "fault.delivery_failed" in a.log


async def late_outcome(script: Script) -> None:
    """A partition is opened anew while one of its texts is in the model, which comes out after that."""
    await script.publish([_marked(WAIT), *_texts(10), _marked(HOLD)])
    a = await script.start("a", ALONE, fail_delivery=1, release_when_reopened=True)
    await script.all_committed()
    await script.publish(_texts(5))
    await script.all_committed()
    assert a.log.index('"model.holding"') < a.log.index('"partition.reopening"')


async def overtaken(script: Script) -> None:
    """A text leaves the model only after a later one."""
    await script.publish([*_texts(10), _marked(HOLD), *_texts(20)])
    a = await script.start("a", ALONE, release_at=20)
    await script.stream.read(at_least=len(script.inputs))
    assert '"model.holding"' in a.log


def _texts(count: int) -> list[Input]:
    """Good texts, each too long to share a batch."""
    texts = [f"text {number} of {count}, long enough to be scored alone" for number in range(count)]
    return [Input(text.encode(), echo_probability(text)) for text in texts]


def _marked(word: str) -> Input:
    text = f"{word} with this one in the model, and it alone"
    return Input(text.encode(), echo_probability(text))
