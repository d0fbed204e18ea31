"""SST-2 as tab-separated files, split so that no held-out text is seen in training."""

import csv
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHA256 = {
    "train.tsv": "5c47819a1d04cfabc7afcc79a919c97b0b367101ad42d3ff148d67bf501384c2",
    "dev.tsv": "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
}
SEED = 7
HELD_OUT_SIZE = 800
HELD_OUT_MIN_WORDS = 12
SHARED_MIN_WORDS = 4  # shorter phrases ("the film", "very funny") belong to no one sentence


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text; label 0 is NEGATIVE, 1 is POSITIVE."""

    text: str
    label: int


@dataclass(frozen=True, slots=True)
class Split:
    """Training examples, and held-out ones, which give the temperature."""

    train: list[Example]
    held_out: list[Example]


def read_examples(path: Path) -> list[Example]:
    """Read a file of GLUE's SST-2: a header line, then `sentence<TAB>label` lines, unquoted."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[path.name]:
        raise ValueError(f"{path} is not the file that this recipe knows")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Example(row["sentence"].strip(), int(row["label"])) for row in rows]


def normalise(text: str) -> str:
    """Lower-case, with every run of white space made one space."""
    return " ".join(text.lower().split())


def fingerprint(text: str) -> str:
    """Letters and digits alone, lower-case: the same however a text was split into tokens."""
    return "".join(character for character in text.lower() if character.isalnum())


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
    held_out = [example for example in shuffled if words(example) >= HELD_OUT_MIN_WORDS][:held_out_size]
    held_out_texts = [_spaced(example) for example in held_out]
    joined = "\n".join(held_out_texts)

    def overlaps(example: Example) -> bool:
        if words(example) < SHARED_MIN_WORDS:
            return False
        text = _spaced(example)
        return text in joined or any(held_out_text in text for held_out_text in held_out_texts)

    return Split([example for example in shuffled if not overlaps(example)], held_out)


def load_split(directory: Path) -> Split:
    """Split train.tsv, leaving out first what also stands in dev.tsv."""
    examples = without(read_examples(directory / "train.tsv"), read_examples(directory / "dev.tsv"))
    return split(examples, HELD_OUT_SIZE, SEED)


def words(example: Example) -> int:
    return len(example.text.split())


def _spaced(example: Example) -> str:
    return f" {normalise(example.text)} "
