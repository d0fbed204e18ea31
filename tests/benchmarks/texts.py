"""The benchmark's texts: four sets made from the bundled sample, the same on every machine. Pure.

Lengths follow a low-discrepancy sequence instead of dice, so that any beginning of a set has the lengths of the whole:
slow contestants can be given fewer texts and still do the same work per text.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from producer.corpus import bundled

TOKENS_PER_WORD = 1.38
"""Of the sample in the default model's vocabulary, [CLS] and [SEP] apart."""
GOLDEN_RATIO = 0.6180339887


@dataclass(frozen=True)
class TextSet:
    """`texts`: how many the ceiling scores in about four seconds of a core, in int8."""

    what: str
    texts: int
    tokens: Callable[[float], int | None]
    """From a number in [0, 1) to a text's length in tokens, nearly; None: a text of the sample as it is."""


def _mixed(x: float) -> int | None:
    return None if x < 0.6 else round(30 + 220 * (x - 0.6) / 0.4)


def _bimodal(x: float) -> int | None:
    return None if x < 0.7 else round(300 + 200 * (x - 0.7) / 0.3)


TEXT_SETS = {
    "short": TextSet("tweets and single sentences", 3200, lambda _x: None),
    "mixed": TextSet("60 % of them, 40 % reviews of 30 to 250 tokens", 640, _mixed),
    "long": TextSet("128 to 512 tokens", 128, lambda x: round(128 + 384 * x)),
    "bimodal": TextSet("70 % short, 30 % of 300 to 500 tokens", 288, _bimodal),
}


def texts_of(name: str, count: int) -> list[str]:
    """The first `count` texts of a set."""
    sample = [text.text for text in bundled()]
    whole, words = itertools.cycle(sample), itertools.cycle(" ".join(sample).split())
    lengths = (TEXT_SETS[name].tokens(number * GOLDEN_RATIO % 1) for number in range(count))
    return [next(whole) if length is None else _joined(words, length) for length in lengths]


def _joined(words: Iterator[str], tokens: int) -> str:
    return " ".join(itertools.islice(words, round(tokens / TOKENS_PER_WORD)))
