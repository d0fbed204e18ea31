"""Listeners whose advertised port is a proxy's: what a client there sends and gets can be hurt."""

import random
import socket
from itertools import islice
from typing import NamedTuple

from tests.faults.proxy import HOST, Proxy

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


def listeners_of(lanes: list[Lane]) -> dict[str, str]:
    """The broker's settings for these lanes."""
    named = {f"LANE{number}": lane for number, lane in enumerate(lanes)}
    return {
        "listeners": ",".join(f"{name}://{HOST}:{lane.broker_port}" for name, lane in named.items()),
        "advertised.listeners": ",".join(f"{name}://{lane.bootstrap_servers}" for name, lane in named.items()),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in named),
    }


def bound_port() -> socket.socket:
    """A port kept for us while its proxy refuses connections, so that no stranger is met there meanwhile."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, 0))
    return bound


def free_ports(count: int) -> list[int]:
    """Ports that a broker may listen on."""
    shuffled = random.sample(PORTS, len(PORTS))
    return list(islice((port for port in shuffled if _is_free(port)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
