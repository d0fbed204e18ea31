"""The broker of these tests; only an embedded one can be given users, ports and certificates."""

from collections.abc import Iterator

import pytest

from tests.secured.broker import SecuredKafka, secured_kafka


@pytest.fixture(scope="session")
def secured(kafka_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One for the whole run."""
    with secured_kafka(tmp_path_factory.mktemp("secured"), kafka_version) as running:
        yield running
