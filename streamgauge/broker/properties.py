"""A broker's properties: Kafka for a laptop, not for a data centre."""

import struct
from collections.abc import Mapping

from streamgauge.child import HOST

Settings = Mapping[str, str]

LISTENER_SETTINGS = ("listeners", "advertised.listeners", "listener.security.protocol.map")

# Kafka's defaults are for machines of its own: threads, buffers and files are cut to what a laptop shares,
# waits to what a person or a test at the other end bears.
LAPTOP = {
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


def node_properties(node_id: int, port: int, controller_ports: Mapping[int, int]) -> dict[str, str]:
    """A node's properties: three replicas and two of them in sync where there are three nodes."""
    replicas = min(3, len(controller_ports))
    in_sync = max(1, replicas - 1)
    return LAPTOP | {
        "node.id": str(node_id),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{i}@{HOST}:{p}" for i, p in controller_ports.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_ports[node_id]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
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


def with_settings(properties: Settings, settings: Settings) -> dict[str, str]:
    """The properties with the user's: added to the lists of listeners, in place of anything else."""
    added = {key: f"{properties[key]},{settings[key]}" for key in LISTENER_SETTINGS if key in settings}
    return {**properties, **settings, **added}


def properties_text(properties: Settings) -> str:
    """A Java properties file; anything but ASCII is written as UTF-16 escapes, as Java reads it."""
    lines = []
    for key, value in properties.items():
        units = struct.iter_unpack(">H", value.replace("\\", "\\\\").encode("utf-16-be"))
        text = "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for (unit,) in units)
        lines.append(f"{key}={text}\n")
    return "".join(lines)
