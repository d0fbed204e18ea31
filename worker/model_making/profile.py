"""Labelled texts as a model sees them: its accuracy on them, and the reference that live texts can be compared with."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamgauge.errors import ConfigurationError
from worker.model.session import OnnxModel

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LENGTH_RANGES = ((1, 16), (17, 32), (33, 512))


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the name or the number of each one's label."""

    texts: list[str]
    labels: list[str]

    @classmethod
    def read(cls, file: Path) -> "LabelledTexts":
        """Read a csv, tsv or jsonl file with `text` (or `sentence`) and `label`. Raises ConfigurationError."""
        try:
            rows = list(_rows(file))
            texts = [str(row.get("text", row.get("sentence", ""))).strip() for row in rows]
            labels = [str(row["label"]) for row in rows]
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"--data {file}: {error}") from None
        except KeyError as missing:
            raise ConfigurationError(f"--data {file}: no column {missing}") from None
        if not texts or not all(texts):
            raise ConfigurationError(f"--data {file}: needs a text in every row, in a column text or sentence")
        return cls(texts, labels)


def reference_profile(model: OnnxModel, data: LabelledTexts) -> dict[str, Any]:
    """Lengths in tokens with [CLS] and [SEP], unknown tokens, what the model says, and how often it is right."""
    rows = [ids for ids, _truncated in model.encode(data.texts)]
    scores = np.concatenate([model.score([ids]) for ids in rows])
    predicted = [model.labels[index] for index in scores.argmax(axis=1)]
    numbered = {str(number): label for number, label in enumerate(model.labels)}
    expected = [numbered.get(label, label) for label in data.labels]
    if strange := set(expected) - set(model.labels):
        raise ConfigurationError(f"--data: no label of the model: {', '.join(sorted(strange)[:5])}")
    lengths = np.array([len(ids) for ids in rows])
    right = np.array([one == other for one, other in zip(predicted, expected, strict=True)])
    unknown_id = model.tokenizer.token_to_id("[UNK]")
    unknown = sum(token == unknown_id for ids in rows for token in ids)
    mix = Counter(predicted)
    return {
        "texts": len(rows),
        "token_length_quantiles": {str(q): int(np.quantile(lengths, q, method="nearest")) for q in QUANTILES},
        "unknown_token_share": round(unknown / max(1, int((lengths - 2).sum())), 6),
        "score_mix": {label: round(mix[label] / len(rows), 6) for label in model.labels},
        "mean_confidence": round(float(scores.max(axis=1).mean()), 6),
        "accuracy_by_length": {
            f"{low}-{high}": {"texts": int(chosen.sum()), "accuracy": round(float(right[chosen].mean()), 4)}
            for low, high in LENGTH_RANGES
            if (chosen := (lengths >= low) & (lengths <= high)).any()
        },
    }


def accuracy(profile: dict[str, Any]) -> float:
    """The share of right answers over all lengths."""
    parts = profile["accuracy_by_length"].values()
    return float(sum(part["texts"] * part["accuracy"] for part in parts) / profile["texts"])


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [msgspec.json.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".tsv":
            return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        return list(csv.DictReader(lines))
