"""One Kafka broker as a Java process: started, known to be ready, killed, and ended when we end."""

import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from streamgauge.errors import BrokerError

HOST = "127.0.0.1"
LOG_LINES = 20
LOG_TAIL_BYTES = 64 * 1024
POLL_S = 0.02
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0

# Java must not outlive us, even when we are killed with SIGKILL. The pipe into the watchdog closes with the
# last process that holds its other end. Java's pid comes through that same pipe, from the shell that turns
# into Java, so there is no moment at which a broker runs and its watchdog does not know it.
WATCHDOG = 'read -r pid; read -r _; kill -9 "$pid" 2>/dev/null'
LAUNCH = 'echo "$$"; exec "$@" >>"$0" 2>&1'


class Node:
    """One Kafka broker: a Java process that can be killed and started again on its port and data."""

    def __init__(self, node_id: int, port: int, command: Sequence[str], folder: Path) -> None:
        """Describe the node without starting it; Java works in `folder` and logs to `folder`.log."""
        self.id = node_id
        self.port = port
        self.folder = folder
        self.log_path = folder.with_name(f"{folder.name}.log")
        self._command = command
        self._log_start = 0
        self._java: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Java's process id, or None when the node does not run."""
        if self._java is None:
            return None
        if self._java.poll() is None:
            return self._java.pid
        self._end_watchdog()
        return None

    def start(self) -> None:
        """Start Java, in a session of its own: a terminal's Ctrl-C is for the clients, which drain first."""
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
        self._java = subprocess.Popen(  # noqa: S603 - "$@" keeps the arguments apart
            ["/bin/sh", "-c", LAUNCH, str(self.log_path), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=watchdog.stdin,
            cwd=self.folder,
            start_new_session=True,
        )

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S, *, among: Iterable[int] = ()) -> None:
        """Wait until the node answers requests and knows itself, and the nodes `among`, as alive.

        Raises BrokerError with the end of the node's log when Java ends or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        wanted = {self.id, *among}
        while not wanted <= _live_brokers(self.port):
            if self.pid is None:
                raise self.error("ended before it answered")
            if time.monotonic() > deadline:
                raise self.error(f"did not answer within {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send Java a signal; after SIGKILL, returns when it is gone."""
        if self._java is None:
            return
        self._java.send_signal(signum)
        if signum == signal.SIGKILL:
            self._java.wait()
            self._end_watchdog()

    def wait(self) -> int:
        """Wait until Java has ended, by itself or by a signal; returns its exit status."""
        if self._java is None:
            raise BrokerError("the node was never started")
        return self._java.wait()

    def stop(self) -> None:
        """Shut the node down cleanly; kill it if it has not ended after 10 s."""
        stop_all([self])

    def error(self, what: str) -> BrokerError:
        """An error that names this node's log and quotes the end of it, since this start."""
        tail = _log_tail(self.log_path, self._log_start)
        return BrokerError(f"Apache Kafka, node {self.id}, {what}; {tail}")

    def _end_watchdog(self) -> None:
        """End the watchdog right after Java: later it could kill a stranger that was given Java's old pid."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None


def stop_all(nodes: Sequence[Node]) -> None:
    """Shut the nodes down side by side within 10 s, a stopped (SIGSTOP) one too; then kill what is left."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for node in nodes:
        node.kill(signal.SIGTERM)
        node.kill(signal.SIGCONT)
    while any(node.pid for node in nodes) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for node in nodes:
        node.kill()


def _live_brokers(port: int) -> set[int]:
    """The ids of the brokers that the one at this port knows as alive; empty when it does not answer.

    One Metadata request of version 1 for no topic: an open port alone does not mean that requests are served.
    """
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reply:
                _size, _correlation_id, count = struct.unpack(">iii", reply.read(12))
                return {_read_broker(reply) for _ in range(count)}
    except (OSError, struct.error):
        return set()


def _read_broker(reply: IO[bytes]) -> int:
    """Read one broker of a Metadata reply, to its end: id, host, port, rack."""
    node_id, host_length = struct.unpack(">ih", reply.read(6))
    _host, _port, rack_length = struct.unpack(f">{host_length}sih", reply.read(host_length + 6))
    reply.read(max(0, rack_length))
    return int(node_id)


def _log_tail(path: Path, start: int) -> str:
    """Name the log and quote its last lines since `start`, without stack frames, which hide the cause."""
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - LOG_TAIL_BYTES))
        lines = log.read().decode("utf-8", "replace").splitlines()
    shown = [line for line in lines if not line.startswith(("\tat ", "\t... "))][-LOG_LINES:]
    return "\n".join([f"its log is {path}, which ends with:", *shown])
