"""A slice of `make fuzz`, of a fixed seed: a case that fails there is given a test of its own where it belongs."""

import pytest

from tests.cluster import Kafka
from tests.fuzz import services
from tests.fuzz.running import run
from tests.fuzz.targets import TARGETS

SEED = 1


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_input_is_read_or_refused(target: str) -> None:
    """Nothing raises, nothing is lost, memory does not grow."""
    assert run(target, SEED, range(TARGETS[target][1] // 50)).failures == []


async def test_hostile_records_have_one_outcome_each(kafka: Kafka) -> None:
    """Through a worker on a real Kafka."""
    assert await services.through_worker(kafka.bootstrap_servers, SEED, 2000) >= 2000


async def test_hostile_labels_are_counted_each(kafka: Kafka) -> None:
    """By a listener on a real Kafka."""
    assert await services.through_listener(kafka.bootstrap_servers, SEED, 2000) >= 2000


async def test_hostile_requests_leave_a_service_alive() -> None:
    """And no traceback in its log."""
    assert await services.at_the_port(SEED, 200) == 200
