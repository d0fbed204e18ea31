"""Listener processes under test: started, killed, and asked for their numbers."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from feedback_listener.reconcile import Scraped, read_metrics
from streamgauge.errors import StreamgaugeError
from tests.cluster import ROOT, Stream
from tests.faults.listener_process import Plan
from tests.faults.replica import served_at


class ListenerProcess:
    """One listener; a context manager that ends it, whatever state it is in."""

    def __init__(self, stream: Stream, folder: Path, shard: str = "0/1", **plan: Any) -> None:
        name = f"listener-{shard.replace('/', '-of-')}"
        self.store = folder / f"{name}.sqlite"
        self.shard = shard
        self._log_path = folder / f"{name}.log"
        self._plan = Plan(
            bootstrap_servers=stream.kafka.bootstrap_servers,
            prefix=stream.topics.prefix,
            store=str(self.store),
            shard=shard,
            **plan,
        )

    async def __aenter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.faults.listener_process",
                msgspec.json.encode(self._plan).decode(),
                cwd=ROOT,
                stderr=log,
            )
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.kill()
        if raised[1] is not None:
            print(f"--- {self._log_path.name}\n{self.log}")

    async def kill(self) -> None:
        """By SIGKILL; returns when it is gone."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def restart(self) -> None:
        """Kill it and start it again on the same file."""
        await self.kill()
        await self.__aenter__()

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    async def url(self) -> str:
        """Where it serves."""
        return await served_at(lambda: self.log)

    async def shown_at(self, ends: dict[tuple[str, int], int]) -> Scraped:
        """Its numbers once it has come to these offsets of its partitions."""
        while True:
            try:
                async with aiohttp.ClientSession() as http, http.get(f"{await self.url()}/metrics") as answer:
                    shown = read_metrics(await self.url(), await answer.text())
            except (StreamgaugeError, aiohttp.ClientError):
                await asyncio.sleep(0.05)
                continue
            if all(position >= ends[tp.topic, tp.partition] for tp, position in shown.positions.items()):
                return shown
            await asyncio.sleep(0.05)


async def reconciled(stream: Stream, urls: list[str]) -> dict[str, Any]:
    """What `streamgauge reconcile --json` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamgauge", "reconcile", "--json"),
        *(argument for url in urls for argument in ("--listener", url)),
        env=stream.worker_environment,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _errors = await process.communicate()
    report: dict[str, Any] = json.loads(output)
    assert process.returncode == (1 if report["differences"] else 0)
    return report
