"""Apache Kafka in a container, set up as docker-compose.yml has it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from streamgauge.kafka import admin_client
from streamgauge.settings import KafkaSettings
from tests.cluster import ROOT

START_TIMEOUT_S = 180


@contextmanager
def kafka_container(image: str | None) -> Iterator[str]:
    """The address of a Kafka that ends with the block. `image` None: the one of docker-compose.yml."""
    from testcontainers.core.container import DockerContainer  # takes a second, which only this option should cost

    service: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["kafka"]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    settings = {
        **service["environment"],
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"HOST://127.0.0.1:{port},INTERNAL://localhost:19092",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",  # the tests' sessions are shorter than anybody's
    }
    container = DockerContainer(image or service["image"]).with_bind_ports(9092, port)
    for name, value in settings.items():
        container.with_env(name, str(value))
    with container:
        servers = f"127.0.0.1:{port}"
        asyncio.run(_answers(KafkaSettings(bootstrap_servers=servers, connect_timeout_s=START_TIMEOUT_S)))
        yield servers


async def _answers(settings: KafkaSettings) -> None:
    """Wait until the broker does; raises StreamgaugeError when it never does."""
    async with admin_client(settings) as admin:
        await admin.describe_cluster()
