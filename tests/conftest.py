"""The broker of the tests: `KAFKA_BOOTSTRAP_SERVERS` when that is set, else the embedded Apache Kafka.

`pytest --kafka-version 3.6.2` embeds the oldest that is tested; there must be a lock file for it.
`pytest --broker=container` runs the image of docker-compose.yml instead, or the one that `--broker-image` names.
"""

import os
from collections.abc import Iterator

import pytest

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.broker.jars import KAFKA_VERSION
from tests.cluster import Kafka
from tests.container import kafka_container


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which Apache Kafka is embedded."""
    parser.addoption("--broker", choices=["embedded", "container"], default="embedded", help="where Apache Kafka runs")
    parser.addoption("--broker-image", help="with --broker=container; default: that of docker-compose.yml")
    parser.addoption("--kafka-version", default=KAFKA_VERSION, help=f"embedded Apache Kafka (default {KAFKA_VERSION})")


@pytest.fixture(scope="session")
def kafka_version(pytestconfig: pytest.Config) -> str:
    """The version of the embedded Apache Kafka."""
    return str(pytestconfig.getoption("--kafka-version"))


@pytest.fixture(scope="session")
def kafka(kafka_version: str, pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """A Kafka for the whole run."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Kafka(servers)
        return
    if pytestconfig.getoption("--broker") == "container":
        with kafka_container(pytestconfig.getoption("--broker-image")) as servers:
            yield Kafka(servers)
        return
    with EmbeddedKafka(version=kafka_version) as embedded:
        yield Kafka(embedded.bootstrap_servers)
