"""The worker process of the fault tests with a model that some text kills, as a bug in native code would."""

import os
import signal
from collections.abc import Sequence
from unittest import mock

from tests.faults.holding_model import HoldingModel
from tests.faults.worker_process import main
from worker.model.scorer import Probabilities, TokenIds

DEADLY_WORDS = 77
"""A text of so many words ends the process with SIGSEGV when it is scored."""


class DeadlyModel(HoldingModel):
    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        if any(len(ids) == DEADLY_WORDS + 1 for ids in batch):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().score(batch)


if __name__ == "__main__":
    with mock.patch("tests.faults.worker_process.HoldingModel", DeadlyModel):
        main()
