"""SST-2 as tab-separated files, split so that no held-out text is seen in training."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_MIN_WORDS = 12
SHARED_MIN_WORDS = 4  # shorter phrases ("the film", "very funny") belong to no one sentence


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text; label 0 is NEGATIVE, 1 is POSITIVE."""

    text: str
    label: int


@dataclass(frozen=True, slots=True)
class Split:
    """Training examples, and the held-out ones by which the checkpoint is chosen."""

    train: list[Example]
    held_out: list[Example]


def read_examples(path: Path) -> list[Example]:
    """Read a GLUE SST-2 file: a header line, then `sentence<TAB>label` lines, unquoted."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Example(row["sentence"].strip(), int(row["label"])) for row in rows]


def normalise(text: str) -> str:
    """Lower-case, with every run of white space made one space."""
    return " ".join(text.lower().split())


def without(examples: Sequence[Example], unwanted: Sequence[Example]) -> list[Example]:
    """Leave out each example whose normalised text also stands in `unwanted`."""
    texts = {normalise(example.text) for example in unwanted}
    return [example for example in examples if normalise(example.text) not in texts]


def split(examples: Sequence[Example], held_out_size: int, seed: int) -> Split:
    """Hold out random long texts; drop every text of some length that contains one or is part of one.

    The training file lists each review sentence again as many of its phrases, so a plain random split
    would ask the model about texts that it has read.
    """
    shuffled = random.Random(seed).sample(list(examples), len(examples))
    held_out = [example for example in shuffled if _words(example) >= HELD_OUT_MIN_WORDS][:held_out_size]
    held_out_texts = [_spaced(example) for example in held_out]
    joined = "\n".join(held_out_texts)

    def overlaps(example: Example) -> bool:
        if _words(example) < SHARED_MIN_WORDS:
            return False
        text = _spaced(example)
        return text in joined or any(held_out_text in text for held_out_text in held_out_texts)

    return Split([example for example in shuffled if not overlaps(example)], held_out)


def load_split(directory: Path, held_out_size: int, seed: int) -> Split:
    """Split train.tsv, leaving out first what also stands in dev.tsv."""
    examples = without(read_examples(directory / "train.tsv"), read_examples(directory / "dev.tsv"))
    return split(examples, held_out_size, seed)


def _words(example: Example) -> int:
    return len(example.text.split())


def _spaced(example: Example) -> str:
    return f" {normalise(example.text)} "
