"""A model whose answer is a function of the text alone: fast, and known to whoever wrote the text."""

import zlib
from collections.abc import Sequence

import numpy as np

from streamgauge.events import ModelRef
from worker.model.scorer import Probabilities, TokenIds

LABELS = ("NEGATIVE", "POSITIVE")


def echo_probability(text: str) -> float:
    """The probability of POSITIVE that the echo model gives, a multiple of 1/1000 that is never 0.5."""
    return (zlib.crc32(text.encode()) % 500 * 2 + 1) / 1000


class EchoModel:
    """A Scorer: one token a word, after a token that holds the answer."""

    ref = ModelRef(name="echo", version="1", digest="sha256:echo")
    labels = LABELS

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        return [([round(echo_probability(text) * 1000), *range(len(text.split()))], False) for text in texts]

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        positive = np.array([ids[0] / 1000 for ids in batch])
        return np.stack([1 - positive, positive], axis=1)

    def verify(self) -> None:
        """The echo is always right."""
