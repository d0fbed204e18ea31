"""Where an export starts from: a checkpoint's directory, found, downloaded or refused."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from streamgauge.errors import ConfigurationError, StreamgaugeError
from worker.model.directory import Config

Progress = Callable[[str], None]
DOWNLOADED = (
    "config.json",
    "tokenizer*",
    "vocab.txt",
    "special_tokens_map.json",
    "*.safetensors",
    "README.md",
    "LICENSE*",
)

ONLY_FOR_TRANSFORMERS = (
    "_name_or_path",
    "dtype",
    "torch_dtype",
    "initializer_range",
    "qa_dropout",
    "transformers_version",
)
"""Fields of `config.json` that nobody else reads."""


def find_checkpoint(source: str, say: Progress) -> Path:
    """The directory of a checkpoint, downloaded if `source` is a hub's id."""
    if Path(source).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported: nothing is asked of a hub
        return Path(source)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ConfigurationError(f"{source}: no such directory")
    from huggingface_hub import snapshot_download

    say(f"downloading {source}")
    try:
        return Path(snapshot_download(source, allow_patterns=list(DOWNLOADED)))
    except (OSError, ValueError) as error:
        raise StreamgaugeError(f"{source} is no directory here, and cannot be downloaded: {error}") from None


def checked_config(checkpoint: Path) -> dict[str, Any]:
    """config.json of a DistilBERT that gives one of several labels. Raises ConfigurationError."""
    try:
        config: dict[str, Any] = json.loads((checkpoint / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{checkpoint / 'config.json'}: {error}") from None
    if config.get("model_type") != "distilbert":
        raise ConfigurationError(f"{checkpoint}: a {config.get('model_type')} model; only distilbert can be exported")
    if "DistilBertForSequenceClassification" not in (config.get("architectures") or ()):
        raise ConfigurationError(
            f"{checkpoint}: {config.get('architectures')}, not DistilBertForSequenceClassification"
        )
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise ConfigurationError(
            f"{checkpoint}: problem_type {config['problem_type']}; only one label a text is possible"
        )
    if not any((checkpoint / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise ConfigurationError(f"{checkpoint}: no tokenizer: neither tokenizer.json nor vocab.txt")
    from transformers import DistilBertConfig

    complete: dict[str, Any] = DistilBertConfig.from_dict(config).to_dict()
    wanted = ("activation", "dim", "hidden_dim", "id2label", "n_heads", "n_layers", "pad_token_id", "vocab_size")
    return {key: complete[key] for key in (*wanted, "max_position_embeddings")} | config


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that config.json names, in the order of the model's output. Raises ConfigurationError."""
    try:
        return Config({str(number): name for number, name in config["id2label"].items()}).labels
    except ValueError as error:
        raise ConfigurationError(f"config.json: {error}") from None


def kept_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's `config.json` without what only transformers reads."""
    return {key: value for key, value in config.items() if key not in ONLY_FOR_TRANSFORMERS}


def check_space(checkpoint: Path, partial: Path) -> None:
    """Raises StreamgaugeError unless the fp32 graph, the final one and the rest have room."""
    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    needed, free = 3 * weights + 2**24, shutil.disk_usage(partial).free
    if free < needed:
        raise StreamgaugeError(f"{partial.parent}: {needed >> 20} MiB are needed, {free >> 20} MiB are free")


def stated_license(checkpoint: Path) -> str | None:
    """The SPDX id at the head of a hub's README.md."""
    readme = checkpoint / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines[:40] if line.startswith("license:")), None)
