"""Have the teacher label what the student learns from: SST-2's training texts, and text from film reviews.

Writes one JSON object a line: text, label (null for reviews), and the teacher's two logits. Run it again
to go on after a stop.
"""

import argparse
import json
import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infra.model.data import Example, fingerprint, load_split, read_examples
from infra.model.reviews import Choice, passages, read_reviews, sentences
from infra.model.teacher import load, logits
from infra.model.training import token_ids

log = logging.getLogger(__name__)

CHUNK = 1024  # texts labelled, then written, at a time

Unlabelled = tuple[str, int | None]
"""A text, and SST-2's label if it is from there."""

_teacher: list[Any] = []
"""Model and tokenizer, in each process that labels."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, SST-2's label if it is from there, and the teacher's logits: NEGATIVE, POSITIVE."""

    text: str
    label: int | None
    logits: tuple[float, float]


def read_labelled(file: Path) -> list[Labelled]:
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Labelled(row["text"], row["label"], tuple(row["logits"])) for row in rows]


def texts_to_label(train: list[Example], dev: list[Example]) -> list[Unlabelled]:
    """SST-2's training texts, then those of the reviews that do not stand in the development set."""
    reviews, choice = read_reviews(), Choice()
    unwanted = {fingerprint(example.text) for example in dev}
    chosen = [
        text for text in sentences(reviews, choice) + passages(reviews, choice) if fingerprint(text) not in unwanted
    ]
    return [(example.text, example.label) for example in train] + [(text, None) for text in chosen]


def begin(teacher: Path) -> None:
    """Prepare a process that labels on one thread: two such label more than one with two threads."""
    torch.set_num_threads(1)
    _teacher.extend(load(teacher))


def label(texts: list[Unlabelled]) -> list[str]:
    """Lines of the file that is written."""
    model, tokenizer = _teacher
    found = logits(model, token_ids(tokenizer, [text for text, _ in texts])).tolist()
    return [
        json.dumps({"text": text, "label": known, "logits": [round(value, 4) for value in values]}) + "\n"
        for (text, known), values in zip(texts, found, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--work", type=Path, required=True, help="directory of all steps; writes labelled.jsonl")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()

    texts = texts_to_label(load_split(arguments.data).train, read_examples(arguments.data / "dev.tsv"))
    labelled = arguments.work / "labelled.jsonl"
    done = len(read_labelled(labelled)) if labelled.exists() else 0
    chunks = [texts[start : start + CHUNK] for start in range(done, len(texts), CHUNK)]
    with ProcessPoolExecutor(os.cpu_count(), initializer=begin, initargs=(arguments.work / "teacher",)) as pool:
        for lines in pool.map(label, chunks):
            with labelled.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
            done += len(lines)
            log.info("%d of %d texts, %.0f s", done, len(texts), time.monotonic() - started)


if __name__ == "__main__":
    main()
