"""A DistilBERT sequence classifier, from a directory or a model hub, becomes a model directory.

optimum exports it, `quantize` rewrites it, PyTorch says whether the result is still the same model. All is
written beside the output under another name, which is removed unless everything went well.
"""

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from streamgauge.errors import ConfigurationError, StreamgaugeError
from worker.model.directory import KNOWN_ANSWERS, SCORED_FILES, KnownAnswers, write_json
from worker.model.reference_profile import write_profile
from worker.model.scorer import Probabilities, TokenIds, softmax
from worker.model.session import OnnxModel
from worker.model_making.checkpoint import (
    Progress,
    check_space,
    checked_config,
    class_names,
    find_checkpoint,
    kept_config,
    stated_license,
)
from worker.model_making.labelled_texts import LabelledTexts, profile_on

LARGEST_DIFFERENCE = {"none": 1e-3, "int8-rows": 0.15}
"""Of a probability of the known texts, between PyTorch and the exported model, by quantisation."""
ANSWER_TOLERANCE = 0.01
MAX_TOKENS = 512
EXPORTERS = ("optimum", "optimum-onnx", "transformers", "torch")
KNOWN_TEXTS = (
    "An absolute joy from the first minute to the last.",
    "A dull, lifeless mess that wasted my evening.",
    "terrible",
    "...",
    "It starts slowly and the jokes are weak, but the last hour is so moving that I forgave it everything.",
    "I would not say that this is bad.",
    "Love it \N{SMILING FACE WITH HEART-SHAPED EYES} best update ever!!!",
    "Ein wunderbarer Film, den ich jedem empfehlen kann.",
    "The parcel was delivered on Tuesday at 14:05.",
    "It boils a litre in three minutes, it pours without dripping, and the handle stays cool. " * 12,
)


@dataclass(frozen=True)
class Options:
    """What may be chosen; `None` is found out, or left out."""

    quantize: str = "int8-rows"
    opset: int | None = None
    optimize: str | None = None
    name: str | None = None
    version: str | None = None
    license: str | None = None
    max_difference: float | None = None
    data: LabelledTexts | None = None


def export(source: str, output: Path, options: Options, say: Progress) -> None:
    """Write `output`; `source` is a directory or a hub's id. Raises ConfigurationError and StreamgaugeError."""
    _check(options)
    with new_directory(output) as partial:
        checkpoint = find_checkpoint(source, say)
        config = checked_config(checkpoint)
        data = options.data.judged_by(class_names(config)) if options.data else None
        check_space(checkpoint, partial)
        say("exporting with optimum")
        _to_onnx(checkpoint, config, partial, options)
        _write_tokenizer(checkpoint, partial, config)
        own = {
            "name": options.name or source.rstrip("/").rsplit("/", 1)[-1],
            "version": options.version,
            "license": options.license or stated_license(checkpoint),
            "source": source,
        }
        own_section = {"streamgauge": {key: own[key] for key in own if own[key]}}
        write_json(partial / "config.json", kept_config(config) | own_section)
        model = OnnxModel.without_answers(partial, MAX_TOKENS)
        say("comparing with PyTorch")
        difference = _parity(checkpoint, model, options)
        say(f"largest difference of a probability to PyTorch: {difference:.2g}")
        write_known_answers(model, partial, KNOWN_TEXTS)
        facts = {"difference": difference, "accuracy": None, "texts": 0}
        if data:
            say(f"scoring {len(data.texts)} texts of {data.name}")
            profile = profile_on(model, data)
            write_profile(profile, partial)
            facts |= {"accuracy": profile.accuracy, "texts": profile.labelled_texts}
        for licence_file in checkpoint.glob("LICENSE*"):
            shutil.copy(licence_file, partial)
        (partial / "model-card.md").write_text(_card(model, source, options, facts), encoding="utf-8")
        OnnxModel.load(partial, MAX_TOKENS).verify()
    say(f"{output}: {model.ref.key}, {model.ref.digest}")


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """A sibling of `output` that takes its name at the end, and is gone after any error or interruption."""
    if output.exists():
        raise ConfigurationError(f"--output {output} exists already")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from None
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(output)
    except OSError as error:
        raise StreamgaugeError(f"{output} was not written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_known_answers(model: OnnxModel, directory: Path, texts: Sequence[str]) -> None:
    """Score each text alone; the file names the digest of the model that gave the answers."""
    answers = KnownAnswers(model.ref.digest, ANSWER_TOLERANCE, [model.answer(text) for text in texts])
    write_json(directory / KNOWN_ANSWERS, answers)


def _check(options: Options) -> None:
    missing = [name for name in ("torch", "transformers", "onnx", "optimum.exporters.onnx") if not _present(name)]
    if missing:
        raise ConfigurationError(
            f"streamgauge export needs {', '.join(missing)}; run, in the project's folder: pip install '.[export]' "
            "(5 GB with torch)"
        )
    if options.quantize not in LARGEST_DIFFERENCE:
        raise ConfigurationError(f"--quantize {options.quantize}: there are {', '.join(LARGEST_DIFFERENCE)}")
    if options.optimize and options.quantize != "none":
        raise ConfigurationError("--optimize is for --quantize none: a quantised model has a graph of its own")


def _present(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _to_onnx(checkpoint: Path, config: dict[str, Any], partial: Path, options: Options) -> None:
    import onnx
    from optimum.exporters.onnx import main_export
    from transformers.utils import logging

    from worker.model_making.quantize import QuantizeError, quantize

    logging.set_verbosity_error()
    getLogger("optimum").setLevel("CRITICAL")  # it speaks of packages that are not needed
    directory = partial / "float"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed on purpose
        main_export(
            str(checkpoint),
            directory,
            task="text-classification",
            opset=options.opset,
            optimize=options.optimize,
            do_validation=False,
        )
    if options.quantize == "none":
        (directory / "model.onnx").rename(partial / "model.onnx")
    else:
        try:
            onnx.save(quantize(onnx.load(directory / "model.onnx"), config), partial / "model.onnx")
        except QuantizeError as error:
            raise ConfigurationError(f"--quantize {options.quantize}: {error}") from None
    shutil.rmtree(directory)


def _write_tokenizer(checkpoint: Path, partial: Path, config: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, use_fast=True).backend_tokenizer
    if tokenizer.get_vocab_size() > config["vocab_size"]:
        raise ConfigurationError(
            f"{checkpoint}: the tokenizer knows {tokenizer.get_vocab_size()} tokens, the model {config['vocab_size']}"
        )
    tokenizer.save(str(partial / "tokenizer.json"))


def _parity(checkpoint: Path, model: OnnxModel, options: Options) -> float:
    """The largest difference of a probability to PyTorch's. Raises StreamgaugeError above the limit."""
    rows = [ids for ids, _truncated in model.encode(list(KNOWN_TEXTS))]
    ours = np.concatenate([model.score([ids]) for ids in rows])
    difference = float(np.abs(ours - _torch_scores(checkpoint, rows)).max())
    limit = LARGEST_DIFFERENCE[options.quantize] if options.max_difference is None else options.max_difference
    if not difference <= limit:
        raise StreamgaugeError(
            f"a probability differs by {difference:.3g} from PyTorch's; --max-difference allows {limit:g}"
        )
    return difference


def _torch_scores(checkpoint: Path, rows: Sequence[TokenIds]) -> Probabilities:
    import torch
    from transformers import DistilBertForSequenceClassification

    reference = DistilBertForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = [reference(torch.tensor([list(ids)])).logits.double().numpy() for ids in rows]
    return softmax(np.concatenate(logits))


def _card(model: OnnxModel, source: str, options: Options, facts: dict[str, Any]) -> str:
    own = model.config.streamgauge
    measured = f"{facts['accuracy']:.2%} of {facts['texts']} texts" if facts["accuracy"] else "not measured (--data)"
    return f"""# {model.ref.key}

| | |
|---|---|
| made from | {source} |
| licence | {own.license or "not stated by the source: find out before you use it"} |
| labels | {", ".join(model.labels)} |
| quantisation | {options.quantize} |
| largest difference of a probability to PyTorch, {len(KNOWN_TEXTS)} texts | {facts["difference"]:.2g} |
| right | {measured} |
| temperature | {own.temperature} (not calibrated) |
| digest of {", ".join(SCORED_FILES)} | `{model.ref.digest}` |
| exported with | {", ".join(f"{name} {version(name)}" for name in EXPORTERS)} |

What it was trained on, and what it must not be used for, is for its makers to say.
"""
