"""Which of several errors tells most, and whose name a denial has."""

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import TopicPartition

from streamgauge.denials import most_telling, named


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


DENIED, FENCED, FIRST = TopicAuthorizationFailedError("x"), ProducerFenced(), InvalidTxnState()


@pytest.mark.parametrize(
    ("errors", "telling"),
    [
        ([InvalidTxnState(), FENCED, DENIED], DENIED),
        ([ExceptionGroup("stages", [FENCED, ExceptionGroup("", [DENIED])])], DENIED),
        ([caused(KafkaError("Unexpected error during batch delivery"), DENIED)], DENIED),
        ([IllegalOperation(), caused(KafkaError(), FENCED)], FENCED),
        ([FIRST, IllegalOperation(), TimeoutError()], FIRST),
        ([caused(FIRST, caused(KafkaError(), FIRST))], FIRST),
    ],
)
def test_the_most_telling_error(errors: list[BaseException], telling: BaseException) -> None:
    """A denial, wherever it is; then what says what is wrong; else the first, even if errors cause each other."""
    assert most_telling(*errors) is telling


@pytest.mark.parametrize(
    ("error", "args"),
    [
        (TopicAuthorizationFailedError(), ("in",)),
        (TopicAuthorizationFailedError("out"), ("out",)),
        (TopicAuthorizationFailedError({"out", "also"}), ("also", "out")),
        (TopicAuthorizationFailedError(TopicPartition("out", 3)), ("out",)),
        (GroupAuthorizationFailedError("Unable to get coordinator id for g"), ("g",)),
        (TransactionalIdAuthorizationFailed(), ("g/in/0",)),
        (TransactionalIdAuthorizationFailed("g/in/1"), ("g/in/1",)),
        (ProducerFenced("as it is"), ("as it is",)),
    ],
)
def test_a_denial_has_the_name_of_what_is_denied(error: KafkaError, args: tuple[str, ...]) -> None:
    """In whatever form aiokafka has it, and if it has none."""
    found = named(error, topic="in", group="g", transactional_id="g/in/0")
    assert (type(found), found.args) == (type(error), args)
