"""Labelled texts from a file, and how a model does on them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamgauge.errors import ConfigurationError
from worker.model.reference_profile import ReferenceProfile, accuracy_by_length, profile_of
from worker.model.session import OnnxModel


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


def profile_on(model: OnnxModel, data: LabelledTexts) -> ReferenceProfile:
    """The model's profile where inputs, scores and accuracy are all of the same texts. Raises ConfigurationError."""
    rows = [ids for ids, _truncated in model.encode(data.texts)]
    scores = np.concatenate([model.score([ids]) for ids in rows])
    numbered = {str(number): label for number, label in enumerate(model.labels)}
    expected = [numbered.get(label, label) for label in data.labels]
    if strange := set(expected) - set(model.labels):
        raise ConfigurationError(f"--data: no label of the model: {', '.join(sorted(strange)[:5])}")
    right = np.array([model.labels.index(label) for label in expected]) == scores.argmax(axis=1)
    unknown_id = model.tokenizer.token_to_id("[UNK]")
    return profile_of(rows, unknown_id, scores, model.labels, accuracy_by_length(right, rows))


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [msgspec.json.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".tsv":
            return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        return list(csv.DictReader(lines))
