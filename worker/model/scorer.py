"""What the stream asks of a model: texts to probabilities. No runtime is loaded here."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamgauge.events import ModelRef

TokenIds = Sequence[int]
Probabilities = NDArray[np.float64]
"""Shape (texts, labels); each row adds up to 1."""


class InferenceError(Exception):
    """The runtime failed on a batch; another batch may pass."""


class Scorer(Protocol):
    """Texts to probabilities. `encode` and `score` are called in threads, several at once."""

    @property
    def ref(self) -> ModelRef: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        """Token ids of each text, and whether it was truncated."""

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        """One row a text, one column a label. Raises InferenceError."""

    def verify(self) -> None:
        """Score the known-answer texts. Raises StreamgaugeError if an answer is wrong, or there is none."""


def softmax(logits: NDArray[np.floating]) -> Probabilities:
    """Row-wise softmax, shape kept."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)
