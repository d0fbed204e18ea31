"""One Kafka broker as a Java process: started, known to be ready, killed, and ended when we end."""

import signal
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from streamgauge.child import HOST, Child
from streamgauge.errors import BrokerError

POLL_S = 0.02
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class Node(Child):
    """One Kafka broker: a Java process that can be killed and started again on its port and data.

    A terminal's Ctrl-C does not reach it: that is for the clients, which drain first.
    """

    def __init__(self, node_id: int, port: int, command: Sequence[str], folder: Path) -> None:
        """Describe the node without starting it; Java works in `folder` and logs to `folder`.log."""
        super().__init__(command, folder, folder.with_name(f"{folder.name}.log"))
        self.id = node_id
        self.port = port

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

    def stop(self) -> None:
        """Shut the node down cleanly; kill it if it has not ended after 10 s."""
        stop_all([self])

    def error(self, what: str) -> BrokerError:
        """An error that names this node's log and quotes the end of it, since this start."""
        return BrokerError(f"Apache Kafka, node {self.id}, {what}; {self.log_tail()}")


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
