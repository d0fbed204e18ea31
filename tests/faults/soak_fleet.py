"""The replicas of a soak: each is started again whenever it ends, as an orchestrator does."""

import asyncio
import json
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import Stream, until
from tests.faults.replica import Replica

SETTINGS: dict[str, Any] = {
    "session_timeout_s": 3,
    "transaction_timeout_s": 5,
    "commit_records": 200,
    "commit_interval_s": 0.01,
}
LOG_TIMEOUT_S = 20.0
END_TIMEOUT_S = 45.0
"""From SIGTERM to the exit: what an orchestrator grants, with room for a rebalance and a busy machine."""


@dataclass(kw_only=True)
class Findings:
    """What should not have happened, beside a bad verdict."""

    problems: list[str] = field(default_factory=list)
    """What fails the run."""
    exits: list[str] = field(default_factory=list)
    """Replicas that ended by themselves: an orchestrator starts them again, and somebody should ask why."""
    silences_s: list[float] = field(default_factory=list)
    """From the end of each fault that was alone until each partition had shown results of later inputs."""


class Post:
    """A place for one replica at a time. The next one may be given a plan; each has a name and a log of its own."""

    def __init__(self, stream: Stream, name: str, log_dir: Path, findings: Findings) -> None:
        self._stream, self._name, self._log_dir, self._findings = stream, name, log_dir, findings
        self._plan: dict[str, Any] = {}
        self._expected: set[int] = set()
        self._closing = self._ending = False
        self._replica: Replica | None = None
        self.started = 0

    async def run(self) -> None:
        """Keep a replica running until `close`."""
        while not self._closing:
            self.started += 1
            plan, self._plan, instance = self._plan, {}, f"{self._name}-{self.started}"
            settings = SETTINGS | plan.pop("settings", {})
            async with Replica(self._stream, instance, self._log_dir, settings=settings, **plan) as replica:
                self._replica, self._ending = replica, False
                self._expected = {-signal.Signals[plan["signal"]]} if "signal" in plan else set()
                code = await replica.ended()
                self._replica = None
            if code not in self._expected:
                last_line = replica.log.strip().rpartition("\n")[2]
                self._findings.exits.append(f"{instance} ended with exit code {code}: {last_line}")
                await asyncio.sleep(1)

    async def replica(self) -> Replica:
        """The replica that works here, once it has begun to."""
        await until(lambda: self._replica is not None and "worker.started" in self._replica.log)
        assert self._replica
        return self._replica

    async def logged(self, text: str) -> None:
        """Wait until the log of a replica that is not ending holds `text`; not for ever, as that may never come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOG_TIMEOUT_S):
                await until(lambda: self._replica is not None and not self._ending and text in self._replica.log)

    async def working(self) -> None:
        """Wait until the replica here has opened a partition."""
        await self.logged("partition.opened")

    async def send(self, number: signal.Signals) -> None:
        """Send a signal to whatever process is here, as soon as there is one; SIGTERM once, a second is an order."""
        await until(lambda: self._replica is not None)
        assert self._replica
        if number == signal.SIGTERM and self._ending:
            return
        self._ending = self._ending or number == signal.SIGTERM
        self._expected |= {signal.SIGTERM: {0}, signal.SIGKILL: {-9}}.get(number, set())
        self._replica.send(number)

    async def replace(self, **plan: Any) -> None:
        """End the replica by SIGTERM and start one with this plan; returns when that one's process runs."""
        before, self._plan = self.started, plan
        await self.send(signal.SIGTERM)
        await self._gone(before)
        await until(lambda: self.started > before and self._replica is not None)

    async def _gone(self, number: int) -> None:
        """Wait until replica `number` has ended; kill it when it takes too long, which nobody expects."""
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await until(lambda: self._replica is None or self.started > number)
        except TimeoutError:
            self._findings.problems.append(f"{self._name}-{number} was still there {END_TIMEOUT_S:.0f} s after SIGTERM")
            await self.send(signal.SIGKILL)

    async def close(self) -> None:
        """End the replica for good."""
        self._closing = True
        await self.send(signal.SIGTERM)
        await self._gone(self.started)


def failed_transactions(log_dir: Path) -> Counter[str]:
    """From the workers' logs: how many transactions failed, as `fenced` or `aborted`, and how many openings found that
    the outputs and the committed offset `differ`.
    """
    counts: Counter[str] = Counter()
    for path in log_dir.glob("*.log"):
        with path.open() as lines:
            for line in lines:
                if '"transaction.failed"' in line:
                    error: str = json.loads(line)["error"]
                    counts["fenced" if error.startswith("ProducerFenced") else "aborted"] += 1
                counts["differ"] += '"outputs.differ"' in line
    return counts
