"""A program that we start and that must not outlive us, and ports for what it serves. Only for POSIX systems."""

import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
LOG_LINES = 20
LOG_TAIL_BYTES = 64 * 1024

# A child must not outlive us, even when we are killed with SIGKILL. The pipe into the watchdog closes with the
# last process that holds its other end. The child's pid comes through that same pipe, from the shell that turns
# into the child, so there is no moment at which it runs and its watchdog does not know it. What the child has started
# itself ends with it: all are in its process group.
WATCHDOG = 'read -r pid; read -r _; kill -9 "-$pid" 2>/dev/null'
LAUNCH = 'echo "$$"; exec "$@" >>"$0" 2>&1'


class Child:
    """A process in a session of its own, with a log; it can be started again, and ends when we end."""

    def __init__(
        self, command: Sequence[str], folder: Path, log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Describe it without starting it. It works in `folder`; `environment` replaces ours, None keeps it."""
        self.folder = folder
        self.log_path = log_path
        self._command = command
        self._environment = environment
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, or None when it does not run."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            return self._process.pid
        self._end_remains()
        return None

    def start(self) -> None:
        """Start it, in a session of its own: a terminal's Ctrl-C is not for it. Nothing is done while it runs."""
        if self.pid is not None:
            return
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        watchdog = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watchdog = watchdog
        self._process = subprocess.Popen(  # noqa: S603 - "$@" keeps the arguments apart
            ["/bin/sh", "-c", LAUNCH, str(self.log_path), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=watchdog.stdin,
            cwd=self.folder,
            env=self._environment,
            start_new_session=True,
        )

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send it, and what it has started, a signal; after SIGKILL, returns when it is gone."""
        if self._process is None:
            return
        if self._process.poll() is None:
            _signal_group(self._process.pid, signum)
        if signum == signal.SIGKILL:
            self._process.wait()
            self._end_remains()

    def wait(self) -> int:
        """Wait until it has ended, by itself or by a signal; returns its exit status. It must have been started."""
        assert self._process is not None
        return self._process.wait()

    def log_tail(self) -> str:
        """Name the log and quote its last lines since this start, without Java's stack frames, which hide the cause."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        shown = [line for line in lines if not line.startswith(("\tat ", "\t... "))][-LOG_LINES:]
        return "\n".join([f"its log is {self.log_path}, which ends with:", *shown])

    def _end_remains(self) -> None:
        """End what the child has left behind, and its watchdog, right after it: later its pid may be a stranger's."""
        if self._process is not None and self._watchdog is not None:
            _signal_group(self._process.pid, signal.SIGKILL)
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None


def _signal_group(pid: int, signum: signal.Signals) -> None:
    # There may be nobody left; macOS says then that what ends just now is not ours to signal.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def free_ports(count: int) -> list[int]:
    """Free ports, below those that systems give to outgoing connections.

    A server that is killed must find its port free when it starts again. A port of the ephemeral range may belong to a
    client by then, even to one that tried to reach the dead server and met itself.
    """
    shuffled = random.sample(PORTS, len(PORTS))
    return list(islice((port for port in shuffled if why_not_free(port) is None), count))


def why_not_free(port: int) -> str | None:
    """Why no server could listen here, by the rules of Java's and Go's own listeners; None when one could."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
        return None
