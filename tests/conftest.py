"""The broker of the tests: `KAFKA_BOOTSTRAP_SERVERS` when that is set, else the embedded Apache Kafka."""

import os
from collections.abc import Iterator

import pytest

from streamgauge.broker import EmbeddedKafka
from tests.cluster import Kafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A Kafka for the whole run."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Kafka(servers)
        return
    with EmbeddedKafka() as embedded:
        yield Kafka(embedded.bootstrap_servers)
