"""Worker processes under test: started, frozen, woken, ended, and asked for their numbers."""

import asyncio
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.cluster import Stream, until
from tests.faults.worker_process import Plan

ROOT = Path(__file__).parents[2]


async def served_at(log: Callable[[], str]) -> str:
    """The URL that a process serves at, once its log tells."""
    await until(lambda: '"http.serving"' in log())
    [port] = re.findall(r'"port": (\d+), "event": "http.serving"', log())
    return f"http://127.0.0.1:{port}"


class Replica:
    """One worker process; a context manager that ends it, whatever state it is in."""

    def __init__(self, stream: Stream, instance: str, log_dir: Path, **plan: Any) -> None:
        self._plan = Plan(
            bootstrap_servers=stream.kafka.bootstrap_servers,
            prefix=stream.topics.prefix,
            group=stream.group,
            instance=instance,
            **plan,
        )
        self._log_path = log_dir / f"{instance}.log"

    async def __aenter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.faults.worker_process",
                msgspec.json.encode(self._plan).decode(),
                cwd=ROOT,
                stderr=log,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if error is not None:
            print(f"--- {self._log_path.name}\n{self.log}")

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    async def url(self) -> str:
        """Where it serves."""
        return await served_at(lambda: self.log)

    async def restart(self) -> None:
        """Kill it and start it again; its log begins anew."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self.__aenter__()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def frozen(self) -> None:
        """Wait until the process is stopped (state T), as by SIGSTOP."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        await until(lambda: re.sub(r".*\) ", "", stat.read_text())[0] == "T")

    async def logged(self, text: str) -> None:
        """Wait until the log holds `text`."""
        await until(lambda: text in self.log)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def ended(self) -> int:
        """Wait for the exit code."""
        return await self._process.wait()
