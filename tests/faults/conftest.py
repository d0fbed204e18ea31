"""The broker of the fault tests: besides its own listener it has lanes, each for one worker behind a proxy."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple

import pytest

from streamgauge.broker.embedded import EmbeddedKafka
from tests.faults.proxy import HOST, Proxy

LANES = 4
PORTS = range(32_000, 32_700)
"""Below what systems hand to outgoing connections, above what the embedded broker chooses from."""


class Lane(NamedTuple):
    """A listener whose advertised port is a proxy's, so that all connections of its client go through it."""

    bound: socket.socket
    broker_port: int

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """Where its client looks for the broker."""
        port: int = self.bound.getsockname()[1]
        return port

    def proxy(self) -> Proxy:
        """The proxy of this lane; without it nobody is reached here."""
        return Proxy(self.port, self.broker_port)


class FaultyKafka(NamedTuple):
    """A broker with a steady listener and lanes that can be hurt."""

    bootstrap_servers: str
    lanes: list[Lane]


@pytest.fixture(scope="session")
def faulty_kafka(kafka_version: str) -> Iterator[FaultyKafka]:
    """One such broker for all fault tests."""
    with ExitStack() as stack:
        lanes = [Lane(stack.enter_context(_bound()), port) for port in _free_ports(LANES)]
        embedded = stack.enter_context(EmbeddedKafka(version=kafka_version, settings=_listeners(lanes)))
        yield FaultyKafka(embedded.bootstrap_servers, lanes)


def _listeners(lanes: list[Lane]) -> dict[str, str]:
    named = {f"LANE{number}": lane for number, lane in enumerate(lanes)}
    return {
        "listeners": ",".join(f"{name}://{HOST}:{lane.broker_port}" for name, lane in named.items()),
        "advertised.listeners": ",".join(f"{name}://{lane.bootstrap_servers}" for name, lane in named.items()),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in named),
    }


def _bound() -> socket.socket:
    """A port kept for us while its proxy refuses connections, so that no stranger is met there meanwhile."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, 0))
    return bound


def _free_ports(count: int) -> list[int]:
    shuffled = random.sample(PORTS, len(PORTS))
    return list(islice((port for port in shuffled if _is_free(port)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
