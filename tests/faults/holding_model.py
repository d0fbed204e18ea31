"""An echo model that lets a test decide when it answers."""

import threading
from collections.abc import Callable, Sequence

import structlog

from tests.echo import EchoModel
from worker.model.scorer import Probabilities, TokenIds

log = structlog.get_logger(__name__)

HOLD = "HOLD"
"""A batch with a text that contains this word is held in the model until `release`."""
WAIT = "WAIT"
"""A batch with a text that contains this word waits in the model until another one is held."""


class HoldingModel(EchoModel):
    """Says when it encodes and scores, in the model's threads."""

    def __init__(self) -> None:
        self.on_encode: Callable[[], None] = lambda: None
        self.on_score: Callable[[], None] = lambda: None
        self._holding, self._released = threading.Event(), threading.Event()

    def release(self) -> None:
        """From now on nothing is held."""
        self._released.set()

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        self.on_encode()
        encoded = zip(texts, super().encode(texts), strict=True)
        return [([*ids, *_marks(text)], truncated) for text, (ids, truncated) in encoded]

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        self.on_score()
        marks = {mark for ids in batch for mark in ids if mark < 0}
        if MARKS[WAIT] in marks:
            self._holding.wait()
        if MARKS[HOLD] in marks and not self._released.is_set():
            log.warning("model.holding")
            self._holding.set()
            self._released.wait()
        return super().score(batch)


MARKS = {HOLD: -1, WAIT: -2}
"""Token ids, by which the model knows these texts."""


def _marks(text: str) -> list[int]:
    return [mark for word, mark in MARKS.items() if word in text]
