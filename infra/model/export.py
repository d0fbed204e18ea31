"""Turn a fine-tuned checkpoint into a model directory: ONNX with int8 weights, and all that describes it."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from data import Example, load_split, read_examples
from measure import (
    batch_effect,
    correct,
    known_answers,
    reference_profile,
    rows_of_mixed_length,
    run_milliseconds,
)
from optimum.exporters.onnx import main_export
from scoring import Floats, onnx_model, score, token_ids, torch_model
from store_int8 import store_int8
from tokenizers import Tokenizer
from train import Recipe

HERE = Path(__file__).parent
NAME, VERSION = "distilbert-sst2-compact", "1.0.0"
ONLY_FOR_TRANSFORMERS = ("dtype", "initializer_range", "qa_dropout", "transformers_version")
MIXED_ROWS = 200


def export_float(checkpoint: Path, directory: Path) -> Path:
    """Export the checkpoint with optimum; return the fp32 ONNX file."""
    main_export(str(checkpoint), directory, task="text-classification", do_validation=False)
    return directory / "model.onnx"


def write_int8(float_file: Path, int8_file: Path) -> None:
    """Write the fp32 ONNX file again with int8 weights."""
    model = onnx.load(float_file)
    store_int8(model)
    onnx.save(model, int8_file)


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_config(checkpoint: Path, file: Path) -> None:
    """The checkpoint's configuration without what only transformers reads, plus our own section."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in ONLY_FOR_TRANSFORMERS}
    kept["streamgauge"] = {"name": NAME, "version": VERSION, "temperature": 1.0}
    write_json(file, kept)


def measured(checkpoint: Path, float_file: Path, int8_file: Path, dev: list[Example]) -> dict[str, Any]:
    """Accuracy, parity, independence of batch-mates, time and size, as the model card shows them."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    rows = token_ids(tokenizer, [example.text for example in dev])
    float_model, int8_model = onnx_model(float_file), onnx_model(int8_file)
    torch_scores, float_scores, int8_scores = (
        score(model, rows) for model in (torch_model(checkpoint), float_model, int8_model)
    )
    pair = {"float": float_model, "int8": int8_model}
    milliseconds = run_milliseconds(pair, batch=8, tokens=64, repeats=101)
    mixed = rows_of_mixed_length(rows, MIXED_ROWS, seed=1)
    return {
        "dev_texts": len(dev),
        "torch_accuracy": _percent(correct(torch_scores, dev).mean()),
        "float_accuracy": _percent(correct(float_scores, dev).mean()),
        "int8_accuracy": _percent(correct(int8_scores, dev).mean()),
        "float_difference": _difference(float_scores, torch_scores),
        "int8_difference": _difference(int8_scores, torch_scores),
        "dev_confidence": _percent(int8_scores.max(axis=1).mean()),
        "batch_effect": f"{batch_effect(int8_model, rows, batch_size=8, seed=1):.2g}",
        "mixed_batch_effect": f"{batch_effect(int8_model, mixed, batch_size=8, seed=1):.2g}",
        "mixed_rows": MIXED_ROWS,
        "int8_ms": milliseconds["int8"],
        "float_ms": milliseconds["float"],
        "megabytes": f"{int8_file.stat().st_size / 1e6:.1f}",
        "float_megabytes": f"{float_file.stat().st_size / 1e6:.1f}",
    }


def trained(checkpoint: Path, recipe: Recipe) -> dict[str, Any]:
    """The recipe and what training recorded, as the model card shows them."""
    record = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    best = record["epochs"][record["best_epoch"] - 1]
    return {
        "train_texts": f"{record['train_texts']:,}",
        "held_out_texts": record["held_out_texts"],
        "recipe": (
            f"{recipe.epochs} epochs of AdamW, learning rate\n  {recipe.learning_rate:g} with linear warm-up"
            f" ({recipe.warmup_share:.0%}) and decay, weight decay {recipe.weight_decay:g}, batches of"
            f" {recipe.batch_size} texts of like length,\n  bf16 autocast, seed {recipe.seed}"
        ),
        "best_epoch": record["best_epoch"],
        "held_out_accuracy": _percent(best["accuracy"]),
        "train_minutes": f"{record['wall_seconds'] / 60:.0f}",
    }


def write_card(output: Path, fields: dict[str, Any]) -> None:
    """Fill in the model card's template."""
    digests = {
        f"{name.split('.')[0]}_sha256": hashlib.sha256((output / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "tokenizer.json")
    }
    template = Template((HERE / "model-card.template.md").read_text(encoding="utf-8"))
    card = template.substitute(fields, name=NAME, version=VERSION, **digests)
    (output / "model-card.md").write_text(card, encoding="utf-8")


def export(checkpoint: Path, data: Path, output: Path) -> None:
    """Write every file of the model directory."""
    output.mkdir(parents=True, exist_ok=True)
    recipe = Recipe()
    train = load_split(data, recipe.held_out_size, recipe.seed).train
    dev = read_examples(data / "dev.tsv")
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    longest = max(len(ids) for ids in token_ids(tokenizer, [example.text for example in train]))

    shutil.copyfile(checkpoint / "tokenizer.json", output / "tokenizer.json")
    write_config(checkpoint, output / "config.json")
    with TemporaryDirectory() as directory:
        float_file = export_float(checkpoint, Path(directory))
        write_int8(float_file, output / "model.onnx")
        figures = measured(checkpoint, float_file, output / "model.onnx", dev)
    write_card(output, {**trained(checkpoint, recipe), **figures, "longest_tokens": longest})

    model = onnx_model(output / "model.onnx")
    texts = json.loads((HERE / "known-texts.json").read_text(encoding="utf-8"))
    write_json(output / "known-answers.json", known_answers(model, tokenizer, texts))
    write_json(output / "reference-profile.json", reference_profile(model, tokenizer, train, dev))


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _difference(scores: Floats, others: Floats) -> str:
    differences = np.abs(scores - others)
    return f"{differences.mean():.2g}, {differences.max():.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--checkpoint", type=Path, required=True, help="directory that train.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="model directory to write")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.data, arguments.output)


if __name__ == "__main__":
    main()
