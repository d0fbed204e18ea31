"""The steps of the protocol at which a worker process can be struck, and how each is found in the code."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any
from unittest import mock

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.transaction import EndTxnRequest

import streamgauge.stable_offset
import worker.start
from tests.faults.holding_model import HoldingModel
from worker.output import OutputRecord
from worker.tenure import Tenure
from worker.transaction import OffsetAfter, TransactionalWriter

log = structlog.get_logger(__name__)

STRIKING = "fault.striking"
"""The log event at the moment of the fault."""

STEPS = {
    "fencing": ("start", "before"),
    "fenced": ("start", "after"),
    "begun": ("begin_transaction", "after"),
    "sent": ("send_batch", "after"),
    "offsets": ("send_offsets_to_transaction", "after"),
    "committing": ("commit_transaction", "before"),
    "committed": ("commit_transaction", "after"),
}
"""Where the process can be hurt: a call of the transactional producer, and which side of it.

`sent` is after a batch's delivery, `offsets` comes later still: the broker holds records then.
"""

Strike = Callable[[], None]

_has_output: ContextVar[bool] = ContextVar("_has_output", default=True)
"""Of the transaction that a task is in; one that only commits where a new group starts has none, and is not struck."""


def arm(step: str, nth: int, name: str, model: HoldingModel) -> None:
    """Have this process send itself the signal `name` at the `nth` passing of `step`."""
    passings = itertools.count(1)

    def strike() -> None:
        if next(passings) == nth:
            log.warning(STRIKING, step=step)
            os.kill(os.getpid(), signal.Signals[name])

    if step in STEPS:
        _tell_output()
        _in_producer(*STEPS[step], strike)
    else:
        FURTHER_STEPS[step](strike, model)


def _tell_output() -> None:
    """Have each transaction say whether it has output."""
    original = TransactionalWriter.commit

    async def commit(self: TransactionalWriter, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        _has_output.set(bool(records))
        await original(self, records, offset_after)

    mock.patch.object(TransactionalWriter, "commit", commit).start()


def _in_producer(method: str, side: str, strike: Strike) -> None:
    original = getattr(AIOKafkaProducer, method)

    async def hurt(self: AIOKafkaProducer, *args: Any, **kwargs: Any) -> Any:
        if side == "before" and _has_output.get():
            strike()
        result = await original(self, *args, **kwargs)
        if method == "send_batch":
            await asyncio.wait([result])
        if side == "after" and _has_output.get():
            strike()
        return result

    mock.patch.object(AIOKafkaProducer, method, hurt).start()


def _fetched(strike: Strike, model: HoldingModel) -> None:
    """The first poll's records are admitted, nothing has been scored."""
    model.on_encode = strike


def _scoring(strike: Strike, model: HoldingModel) -> None:
    """In inference."""
    model.on_score = strike


def _between(strike: Strike, _model: HoldingModel) -> None:
    """Between the fence and the reading of the committed offset."""
    original = streamgauge.stable_offset.stable_offset

    async def hurt(*args: Any) -> Any:
        strike()
        return await original(*args)

    mock.patch.object(worker.start, "stable_offset", hurt).start()


def _commit_sent(strike: Strike, _model: HoldingModel) -> None:
    """The request to end the transaction has been handed to the system, its answer not been read."""
    original = AIOKafkaConnection.send

    def hurt(self: AIOKafkaConnection, request: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, request, *args, **kwargs)
        if isinstance(request, EndTxnRequest):
            strike()
        return answer

    mock.patch.object(AIOKafkaConnection, "send", hurt).start()


def _draining(strike: Strike, model: HoldingModel) -> None:
    """Before the commit of what was in the model when the partitions were taken away."""
    retire, commit_transaction = Tenure.retire, AIOKafkaProducer.commit_transaction
    retired = False

    def let_go(self: Tenure) -> None:
        nonlocal retired
        retired = True
        retire(self)
        model.release()

    async def hurt(self: AIOKafkaProducer) -> None:
        if retired:
            strike()
        await commit_transaction(self)

    mock.patch.object(Tenure, "retire", let_go).start()
    mock.patch.object(AIOKafkaProducer, "commit_transaction", hurt).start()


FURTHER_STEPS: dict[str, Callable[[Strike, HoldingModel], None]] = {
    "fetched": _fetched,
    "scoring": _scoring,
    "between": _between,
    "commit_sent": _commit_sent,
    "draining": _draining,
}
