"""`reference-profile.json`: what a model was made on and how it did there, for live texts to be compared with.

The one place that makes, reads and writes it.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.model.directory import read_json, write_json
from worker.model.scorer import Probabilities, TokenIds

FILE = "reference-profile.json"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LENGTH_RANGES = ((1, 16), (17, 32), (33, 512))
"""In tokens, both ends included."""
CONFIDENCE_BINS = 10
"""Of equal width, from 0 to 1; a confidence of 1 stands in the last."""


class LengthAccuracy(msgspec.Struct, frozen=True):
    """How often the model is right on texts of one range of lengths."""

    texts: int
    accuracy: float
    """A share, 0 to 1."""


class ReferenceProfile(msgspec.Struct, frozen=True):
    """Inputs, scores and accuracy may be of three different sets of texts; each part says how many it is of.

    Token counts include [CLS] and [SEP].
    """

    texts: int
    """The input texts: of the training, or of `streamgauge export --data`."""
    token_length_quantiles: dict[str, int]
    """Of the input texts, by quantile such as "0.95"."""
    unknown_token_share: float
    """Of the input texts' tokens, without [CLS] and [SEP]."""
    texts_with_unknown_tokens: float
    """A share of the input texts."""
    scored_texts: int
    """Texts that the scores are of; the model was not trained on them if its maker could help it."""
    score_mix: dict[str, float]
    """The share of scored texts that each label was predicted for."""
    mean_confidence: float
    """The mean probability of the predicted label."""
    confidence_histogram: list[float]
    """The share of scored texts in each of CONFIDENCE_BINS bins."""
    accuracy_by_length: dict[str, LengthAccuracy]
    """Of labelled texts, by range of lengths such as "17-32"; a range without texts is left out."""

    @property
    def labelled_texts(self) -> int:
        return sum(part.texts for part in self.accuracy_by_length.values())

    @property
    def accuracy(self) -> float:
        """Over all lengths, as a share."""
        parts = self.accuracy_by_length.values()
        return sum(part.texts * part.accuracy for part in parts) / self.labelled_texts


def profile_of(
    rows: Sequence[TokenIds],
    unknown_id: int | None,
    scores: Probabilities,
    labels: Sequence[str],
    accuracy_by_length: dict[str, LengthAccuracy],
) -> ReferenceProfile:
    """`rows`: the input texts as token ids; `scores`: (scored texts, labels)."""
    lengths = np.array([len(ids) for ids in rows])
    unknown = np.array([sum(token == unknown_id for token in ids) for ids in rows])
    predicted, confidence = scores.argmax(axis=1), scores.max(axis=1)
    histogram = np.histogram(confidence, CONFIDENCE_BINS, (0, 1))[0] / len(scores)
    return ReferenceProfile(
        texts=len(rows),
        token_length_quantiles={str(q): int(np.quantile(lengths, q, method="nearest")) for q in QUANTILES},
        unknown_token_share=round(float(unknown.sum() / max(1, (lengths - 2).sum())), 6),
        texts_with_unknown_tokens=round(float((unknown > 0).mean()), 6),
        scored_texts=len(scores),
        score_mix={label: round(float((predicted == index).mean()), 6) for index, label in enumerate(labels)},
        mean_confidence=round(float(confidence.mean()), 6),
        confidence_histogram=histogram.round(6).tolist(),
        accuracy_by_length=accuracy_by_length,
    )


def accuracy_by_length(right: NDArray[np.bool_], rows: Sequence[TokenIds]) -> dict[str, LengthAccuracy]:
    """`right`: (texts,), whether the model was right; `rows`: the same texts as token ids."""
    lengths = np.array([len(ids) for ids in rows])
    return {
        f"{low}-{high}": LengthAccuracy(int(chosen.sum()), round(float(right[chosen].mean()), 4))
        for low, high in LENGTH_RANGES
        if (chosen := (lengths >= low) & (lengths <= high)).any()
    }


def read_profile(directory: Path) -> ReferenceProfile | None:
    """None when the directory has none. Raises ConfigurationError when it is not a profile."""
    file = directory / FILE
    return read_json(file, ReferenceProfile) if file.exists() else None


def write_profile(profile: ReferenceProfile, directory: Path) -> None:
    """Write the file into a model directory."""
    write_json(directory / FILE, profile)
