"""Processes under test, seen from outside: their CPU seconds, the most memory they held, the cores they may use."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its threads have used so far (Linux)."""
    # The kernel's name for the CPU clock of another process; the C library's clock_getcpuclockid builds the same.
    return time.clock_gettime((~pid << 3) | 2)


def rss_mb(pid: int) -> float:
    """The memory that a process holds now, in MB (Linux)."""
    return _status_mb(pid, "VmRSS")


def peak_rss_mb(pid: int) -> float:
    """The most memory that a process has held, in MB (Linux)."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    [kilobytes] = re.findall(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024 / 1e6


def shared_out(cores: Sequence[int], contestant_cores: int) -> tuple[set[int], set[int]]:
    """The contestant's cores, and those of Kafka and of this process; all are everybody's where there are too few."""
    if contestant_cores >= len(cores):
        return set(cores), set(cores)
    return set(cores[:contestant_cores]), set(cores[contestant_cores:])


@asynccontextmanager
async def started(
    command: Sequence[str], cores: set[int], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process on these cores; its standard error goes to `log`, the rest is pipes. Killed after the block."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),  # before it counts its cores
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *arguments]
