"""Turn the student into a model directory: quantised ONNX, and all that describes it."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from optimum.exporters.onnx import main_export
from tokenizers import Tokenizer

from infra.model.calibrate import calibration_error, fit_temperature, likelihood_loss
from infra.model.card import difference, percent, recipe_fields, write_card
from infra.model.data import Example, load_split, read_examples
from infra.model.label import read_labelled
from infra.model.measure import batch_effect, labels_of, rows_of_mixed_length, run_milliseconds
from infra.model.scoring import all_logits, onnx_model, probabilities, torch_model
from infra.model.training import token_ids
from worker.model.directory import write_json
from worker.model.reference_profile import accuracy_by_length, profile_of, write_profile
from worker.model.session import OnnxModel
from worker.model_making.checkpoint import kept_config
from worker.model_making.export import MAX_TOKENS, write_known_answers
from worker.model_making.quantize import quantize

HERE = Path(__file__).parent
NAME, VERSION, LICENSE = "distilbert-sst2-compact", "2.0.0", "Apache-2.0"
MIXED_ROWS = 200


def export_float(checkpoint: Path, directory: Path) -> Path:
    """Export the checkpoint with optimum; return the fp32 ONNX file."""
    main_export(str(checkpoint), directory, task="text-classification", do_validation=False)
    return directory / "model.onnx"


def write_int8(checkpoint: Path, float_file: Path, int8_file: Path) -> None:
    """Quantise the fp32 ONNX file."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    onnx.save(quantize(onnx.load(float_file), config), int8_file)


def write_config(checkpoint: Path, file: Path, temperature: float) -> None:
    """The checkpoint's configuration without what only transformers reads, plus our own section."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    own = {"name": NAME, "version": VERSION, "license": LICENSE, "temperature": temperature}
    write_json(file, kept_config(config) | {"streamgauge": own})


class Texts:
    """Labelled texts as token ids, and their labels."""

    def __init__(self, examples: list[Example], tokenizer: Tokenizer) -> None:
        self.rows = token_ids(tokenizer, [example.text for example in examples])
        self.labels = labels_of(examples)


def measured(
    checkpoint: Path, float_file: Path, int8_file: Path, dev: Texts, held_out: Texts, temperature: float
) -> dict[str, Any]:
    """Accuracy, parity, independence of batch-mates, time and size, as the model card shows them."""
    files = {"torch": checkpoint, "float": float_file, "int8": int8_file}
    models = {"torch": torch_model(checkpoint), "float": onnx_model(float_file), "int8": onnx_model(int8_file)}
    fields: dict[str, Any] = {"dev_texts": len(dev.rows), "held_out_texts": len(held_out.rows)}
    scores = {}
    for name, model in models.items():
        scores[name] = probabilities(all_logits(model, dev.rows), temperature)
        fields[f"{name}_accuracy"] = percent((scores[name].argmax(axis=1) == dev.labels).mean())
        right = all_logits(model, held_out.rows).argmax(axis=1) == held_out.labels
        fields[f"{name}_held_out_accuracy"] = percent(right.mean())
        fields[f"{name}_difference"] = difference(scores[name], scores["torch"])
    timed = run_milliseconds({"float": models["float"], "int8": models["int8"]}, batch=8, tokens=64, repeats=101)
    for name in ("float", "int8"):
        fields[f"{name}_ms"] = timed[name]
        fields[f"{name}_megabytes"] = f"{files[name].stat().st_size / 1e6:.1f}"
    mixed = rows_of_mixed_length(dev.rows, MIXED_ROWS, seed=1)
    return fields | {
        "batch_effect": f"{batch_effect(models['int8'], dev.rows, temperature):.2g}",
        "mixed_batch_effect": f"{batch_effect(models['int8'], mixed, temperature):.2g}",
        "mixed_rows": MIXED_ROWS,
        "confidence": percent(scores["int8"].max(axis=1).mean()),
    }


def calibrated(int8_file: Path, dev: Texts, temperature: float) -> dict[str, Any]:
    """Calibration error and likelihood loss on dev, before and after the temperature."""
    logits = all_logits(onnx_model(int8_file), dev.rows)
    fields: dict[str, Any] = {"temperature": temperature}
    for when, divisor in (("before", 1.0), ("after", temperature)):
        fields[f"ece_{when}"] = percent(calibration_error(probabilities(logits, divisor), dev.labels))
        fields[f"nll_{when}"] = f"{likelihood_loss(logits, dev.labels, divisor):.3f}"
    return fields


def export(work: Path, data: Path, output: Path) -> None:
    """Write every file of the model directory; `work` is where the other steps wrote."""
    checkpoint = work / "student"
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    dev = Texts(read_examples(data / "dev.tsv"), tokenizer)
    held_out = Texts(load_split(data).held_out, tokenizer)
    trained = token_ids(tokenizer, [row.text for row in read_labelled(work / "labelled.jsonl")])
    int8_file = output / "model.onnx"
    with TemporaryDirectory() as directory:
        float_file = export_float(checkpoint, Path(directory))
        write_int8(checkpoint, float_file, int8_file)
        held_out_logits = all_logits(onnx_model(int8_file), held_out.rows)
        temperature = fit_temperature(held_out_logits, held_out.labels)
        fields = measured(checkpoint, float_file, int8_file, dev, held_out, temperature)
    shutil.copyfile(checkpoint / "tokenizer.json", output / "tokenizer.json")
    write_config(checkpoint, output / "config.json", temperature)

    model = OnnxModel.without_answers(output, MAX_TOKENS)
    right = all_logits(onnx_model(int8_file), dev.rows).argmax(axis=1) == dev.labels
    scores = probabilities(held_out_logits, temperature)
    unknown_id = tokenizer.token_to_id("[UNK]")
    profile = profile_of(trained, unknown_id, scores, model.labels, accuracy_by_length(right, dev.rows))
    write_profile(profile, output)
    write_known_answers(model, output, json.loads((HERE / "known-texts.json").read_text(encoding="utf-8")))
    fields |= calibrated(int8_file, dev, temperature) | recipe_fields(work / "teacher", checkpoint)
    write_card(output, fields | {"name": NAME, "version": VERSION, "longest_tokens": max(map(len, trained))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="SST-2: train.tsv and dev.tsv")
    parser.add_argument("--work", type=Path, required=True, help="directory of the other steps")
    parser.add_argument("--output", type=Path, required=True, help="model directory to write")
    arguments = parser.parse_args()
    export(arguments.work, arguments.data, arguments.output)


if __name__ == "__main__":
    main()
