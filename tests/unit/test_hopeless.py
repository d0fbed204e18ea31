"""Which errors end a worker, and which are Kafka's state of the moment."""

import pytest
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CorruptRecordException,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NotEnoughReplicasError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from worker.hopeless import passes, unless_hopeless


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [
        (TimeoutError(), True),
        (KafkaTimeoutError(), True),
        (KafkaConnectionError(), True),
        (CoordinatorLoadInProgressError(), True),
        (NotEnoughReplicasError(), True),
        (CorruptRecordException({}), True),
        (ConcurrentTransactions(), True),
        (InvalidTxnState(), False),
        (ProducerFenced(), False),
        (KafkaError("whatever"), False),
    ],
)
def test_what_passes(error: KafkaError | TimeoutError, is_passing: bool) -> None:
    """None of these is hopeless; where it passes, a new process could not do more."""
    assert unless_hopeless(error, topic="in", group="g") is error
    assert passes(error) is is_passing


def test_a_denial_is_raised_by_name_wherever_it_is_hidden() -> None:
    """aiokafka wraps what its tasks raise."""
    hidden = KafkaError("Unexpected error during batch delivery")
    hidden.__cause__ = TopicAuthorizationFailedError()
    with pytest.raises(TopicAuthorizationFailedError) as raised:
        unless_hopeless(hidden, topic="in", group="g")
    assert raised.value.args == ("in",)
