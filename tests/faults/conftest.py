"""The broker of the fault tests: besides its own listener it has lanes, each for one worker behind a proxy."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from streamgauge.broker.embedded import EmbeddedKafka
from tests.faults.lanes import Lane, bound_port, free_ports, listeners_of

LANES = 4


class FaultyKafka(NamedTuple):
    """A broker with a steady listener and lanes that can be hurt."""

    bootstrap_servers: str
    lanes: list[Lane]


@pytest.fixture(scope="session")
def faulty_kafka(kafka_version: str) -> Iterator[FaultyKafka]:
    """One such broker for all fault tests."""
    with ExitStack() as stack:
        lanes = [Lane(stack.enter_context(bound_port()), port) for port in free_ports(LANES)]
        embedded = stack.enter_context(EmbeddedKafka(version=kafka_version, settings=listeners_of(lanes)))
        yield FaultyKafka(embedded.bootstrap_servers, lanes)
