"""The errors that trying again will not help against; all others are answered by opening the partition anew."""

from aiokafka.errors import (
    ConcurrentTransactions,
    CorruptRecordException,
    IncompatibleBrokerVersion,
    InvalidTransactionTimeout,
    KafkaError,
    KafkaTimeoutError,
    ListenerNotFound,
    ReplicaNotAvailableError,
    UnsupportedVersionError,
)

from streamgauge.denials import DENIALS, most_telling, named

HOPELESS = (*DENIALS, UnsupportedVersionError, IncompatibleBrokerVersion, InvalidTransactionTimeout)
"""Missing rights, a broker without transactions, a timeout that it does not allow."""

PASSING = (
    TimeoutError,
    KafkaTimeoutError,
    CorruptRecordException,
    ConcurrentTransactions,
    ReplicaNotAvailableError,
    ListenerNotFound,
)
"""Besides those that aiokafka calls retriable: Kafka's own client does so with these, too."""


def unless_hopeless(error: KafkaError | TimeoutError, *, topic: str, group: str) -> KafkaError | TimeoutError:
    """What says most of an error; raises it when it is hopeless, with the name of what is denied. `topic` and `group`
    were asked for.
    """
    told = most_telling(error)
    if isinstance(told, HOPELESS):
        raise named(told, topic=topic, group=group) from None
    return told if isinstance(told, KafkaError) else error


def passes(error: KafkaError | TimeoutError) -> bool:
    """Whether it is a state of Kafka that passes, in which a new process could not do more."""
    return isinstance(error, PASSING) or bool(error.retriable)
