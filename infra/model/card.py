"""The model card, filled in from what was measured."""

import hashlib
import json
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from infra.model.reviews import Choice
from infra.model.scoring import Floats
from worker.model.directory import SCORED_FILES

TEMPLATE = Path(__file__).with_name("model-card.template.md")


def percent(share: float) -> str:
    return f"{share:.2%}"


def difference(scores: Floats, others: Floats) -> str:
    """Mean and largest difference of a probability."""
    differences = np.abs(scores - others)
    return f"{differences.mean():.2g}, {differences.max():.2g}"


def recipe_fields(teacher: Path, checkpoint: Path) -> dict[str, Any]:
    """The recipes of teacher and student, and what their training recorded."""
    taught, distilled = (
        json.loads((directory / "training.json").read_text(encoding="utf-8")) for directory in (teacher, checkpoint)
    )
    choice = Choice()
    fields = {f"teacher_{name}": value for name, value in taught["recipe"].items()}
    fields |= {f"student_{name}": value for name, value in distilled["recipe"].items()}
    return fields | {
        "teacher_texts": f"{taught['train_texts']:,}",
        "teacher_held_out_accuracy": percent(taught["held_out_accuracy"]),
        "teacher_dev_accuracy": percent(taught["dev_accuracy"]),
        "teacher_minutes": f"{taught['wall_seconds'] / 60:.0f}",
        "train_texts": f"{distilled['train_texts']:,}",
        "review_sentences": f"{distilled['review_texts'] - choice.passages:,}",
        "review_passages": f"{choice.passages:,}",
        "passage_words": "{} to {}".format(*choice.passage_words),
        "student_minutes": f"{distilled['wall_seconds'] / 60:.0f}",
    }


def write_card(output: Path, fields: dict[str, Any]) -> None:
    """Fill in the template, with the digests of the files that are in the directory."""
    digests = {
        f"{name.split('.')[0]}_sha256": hashlib.sha256((output / name).read_bytes()).hexdigest()
        for name in SCORED_FILES
    }
    card = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(fields | digests)
    (output / "model-card.md").write_text(card, encoding="utf-8")
