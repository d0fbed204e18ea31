"""What Kafka denies, by name: a right that is missing makes other errors follow, and those say nothing of it."""

from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTxnState,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import TopicPartition

DENIALS = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group holds, its groups' too; any other error itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def most_telling(*errors: BaseException) -> BaseException:
    """Of these errors, those they hold and those that caused them: a denial if there is one, else the first that says
    what is wrong. Without any it is the first of all.
    """
    return min([each for error in errors for each in _with_causes(error, set())], key=_says_little)


def _with_causes(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    held = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for each in (*held, error.__cause__):
        if each is not None:
            yield from _with_causes(each, seen)


def _says_little(error: BaseException) -> int:
    if isinstance(error, DENIALS):
        return 0
    # aiokafka says InvalidTxnState of each send beside one that was denied, and a bare KafkaError of what it wraps.
    is_told = isinstance(error, KafkaError) and type(error) is not KafkaError and not isinstance(error, InvalidTxnState)
    return 1 if is_told else 2


def named(error: KafkaError, *, topic: str, group: str, transactional_id: str = "") -> KafkaError:
    """A denial whose arguments are the names of what is denied; one of these where aiokafka gives none or
    only a sentence. Any other error as it is.
    """
    match error:
        case TopicAuthorizationFailedError():
            return TopicAuthorizationFailedError(*(sorted(_topics(error.args)) or [topic]))
        case GroupAuthorizationFailedError():
            return GroupAuthorizationFailedError(group)
        case TransactionalIdAuthorizationFailed():
            return TransactionalIdAuthorizationFailed(*(error.args or [transactional_id]))
    return error


def _topics(args: Iterable[Any]) -> set[str]:
    """The topics that an error of aiokafka carries: as a string, a partition, or a set."""
    found: set[str] = set()
    for arg in args:
        if isinstance(arg, TopicPartition):
            found.add(arg.topic)
        elif isinstance(arg, str):
            found.add(arg)
        else:
            found.update(arg)
    return found
