"""What scripts need of a worker process besides its steps: a delivery that fails, a held text let go at a fact."""

import itertools
from typing import Any
from unittest import mock

import structlog
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.sender import SendProduceReqHandler

from tests.faults.holding_model import HOLD, HoldingModel
from worker.outcomes import InputRecord, Outcome
from worker.tenure import Tenure

log = structlog.get_logger(__name__)


def fail_delivery(nth: int) -> None:
    """The client gives up the nth batch of results; the broker never sees it."""
    counts = itertools.count(1)
    begin, do = SendProduceReqHandler.__init__, SendProduceReqHandler.do

    def without_it(self: SendProduceReqHandler, sender: Any, batches: dict[Any, Any]) -> None:
        kept = dict(batches)
        for tp, batch in batches.items():
            if tp.topic.endswith(".results") and next(counts) == nth:
                log.warning("fault.delivery_failed", records=batch.record_count)
                batch.failure(exception=KafkaTimeoutError("given up by the test"))
                del kept[tp]
        begin(self, sender, kept)

    async def do_the_rest(self: SendProduceReqHandler, node_id: int) -> None:
        if self._batches:
            await do(self, node_id)

    mock.patch.object(SendProduceReqHandler, "__init__", without_it).start()
    mock.patch.object(SendProduceReqHandler, "do", do_the_rest).start()


def release_at(offset: int, model: HoldingModel) -> None:
    """Held texts leave the model when the outcome of `offset` is known."""
    finish = Tenure.finish

    def then_release(self: Tenure, outcome: Outcome) -> None:
        finish(self, outcome)
        if outcome.record.offset == offset:
            model.release()

    mock.patch.object(Tenure, "finish", then_release).start()


def release_when_reopened(model: HoldingModel) -> None:
    """Held texts leave the model when a later epoch fetches their record: their outcome comes too late."""
    admit = Tenure.admit
    first: set[int] = set()

    def then_release(self: Tenure, record: InputRecord) -> None:
        admit(self, record)
        if HOLD.encode() in (record.value or b""):
            first.add(self.epoch)
            if len(first) > 1:
                model.release()

    mock.patch.object(Tenure, "admit", then_release).start()
