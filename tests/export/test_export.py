"""`streamgauge export` with the real exporter: what comes out scores as PyTorch does, or nothing comes out.

Needs the extra `export` (5 GB), so `make test-export` runs it in an environment of its own.
"""

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from worker.model.session import OnnxModel
from worker.model_making.inspection import inspect
from worker.settings import WorkerSettings

TOKENIZER = WorkerSettings().model_dir / "tokenizer.json"
SMALL = {"n_layers": 2, "dim": 64, "hidden_dim": 128, "n_heads": 4}


def checkpoint(directory: Path, **config: Any) -> Path:
    """Random weights, a real tokenizer; as large as the original unless `config` says otherwise."""
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(DistilBertConfig(**config))
    torch.nn.init.normal_(model.classifier.weight, std=0.5)  # so that texts differ in their scores
    model.save_pretrained(directory)
    shutil.copy(TOKENIZER, directory)
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("small"), **SMALL)


def run(*arguments: object, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamgauge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, preexec_fn=before)


def assert_nothing_in(directory: Path) -> None:
    """Neither the output nor its unfinished sibling."""
    assert list(directory.iterdir()) == []


def test_a_model_of_full_size_becomes_a_model_directory(tmp_path: Path) -> None:
    """66 million parameters, three labels, a licence: exported in int8, checked, described, loaded by the worker."""
    source = checkpoint(tmp_path / "source", id2label={0: "bad", 1: "so so", 2: "good"})
    (source / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (source / "LICENSE").write_text("MIT License")
    data = tmp_path / "data.tsv"
    data.write_text("sentence\tlabel\nwhat a lovely film\tgood\nwhat a dreadful film\t0\n")
    says = ("--data", data, "--label-map", "0=bad")
    ran = run("export", source, "--output", tmp_path / "out" / "model", *says, "--version", "7")
    assert ran.returncode == 0, ran.stderr
    assert "largest difference of a probability to PyTorch: " in ran.stdout
    report = inspect(tmp_path / "out" / "model")
    assert (report.name, report.version, report.license) == ("source", "7", "mit")
    assert report.labels == ("bad", "so so", "good")
    assert (report.quantization, report.sound) == ("int8-rows", True)
    assert 66e6 < report.parameters < 68e6
    assert report.bytes < 0.27 * 4 * report.parameters
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["model"]
    assert (tmp_path / "out" / "model" / "LICENSE").read_text() == "MIT License"
    assert json.loads((tmp_path / "out" / "model" / "reference-profile.json").read_text())["texts"] == 2


@pytest.mark.parametrize("optimize", [(), ("--optimize", "O2")])
def test_fp32_is_what_pytorch_says(small: Path, tmp_path: Path, optimize: tuple[str, ...]) -> None:
    """Unquantised, as it is or optimised by optimum, the difference is that of rounding."""
    output = tmp_path / "model"
    ran = run("export", small, "--output", output, "--quantize", "none", *optimize, "--max-difference", "1e-5")
    assert ran.returncode == 0, ran.stderr
    OnnxModel.load(output, 512).verify()
    assert run("inspect", output).stdout.count("quantisation none") == 1


def test_an_old_tokenizer_is_converted(small: Path, tmp_path: Path) -> None:
    """A checkpoint with vocab.txt alone gives the same tokens."""
    source = shutil.copytree(small, tmp_path / "source")
    (source / "tokenizer.json").unlink()
    vocabulary = Tokenizer.from_file(str(TOKENIZER)).get_vocab()
    (source / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    assert run("export", source, "--output", tmp_path / "model").returncode == 0
    [(ids, _truncated)] = OnnxModel.load(tmp_path / "model", 512).encode(["Nothing, naïve and new!"])
    assert list(ids) == Tokenizer.from_file(str(TOKENIZER)).encode("Nothing, naïve and new!").ids


REFUSED = {
    "wrong architecture": ({"model_type": "bert"}, "a bert model; only distilbert"),
    "wrong task": ({"architectures": ["DistilBertForTokenClassification"]}, "not DistilBertForSequenceClassification"),
    "several labels a text": ({"problem_type": "multi_label_classification"}, "only one label a text"),
    "an activation that cannot be quantised": ({"activation": "silu"}, "activation 'silu'"),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_refused(small: Path, tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """Exit code 2, one line that says why, and nothing is left behind."""
    source, output = shutil.copytree(small, tmp_path / "source"), tmp_path / "out"
    known = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(known | config))
    output.mkdir()
    ran = run("export", source, "--output", output / "model")
    assert (ran.returncode, message in ran.stderr, len(ran.stderr.splitlines())) == (2, True, 1), ran.stderr
    assert_nothing_in(output)


def test_a_missing_tokenizer_is_named(small: Path, tmp_path: Path) -> None:
    """Without a tokenizer there is no model directory."""
    source, output = shutil.copytree(small, tmp_path / "source"), tmp_path / "out"
    (source / "tokenizer.json").unlink()
    output.mkdir()
    ran = run("export", source, "--output", output / "model")
    assert (ran.returncode, "neither tokenizer.json nor vocab.txt" in ran.stderr) == (2, True), ran.stderr
    assert_nothing_in(output)


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [("./nowhere", 2, "./nowhere: no such directory"), ("some/model", 1, "cannot be downloaded")],
)
def test_a_source_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: int, message: str
) -> None:
    """A path that is none, and an id of a hub that does not answer."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    ran = run("export", source, "--output", tmp_path / "model")
    assert (ran.returncode, message in ran.stderr, len(ran.stderr.splitlines())) == (code, True, 1), ran.stderr
    assert_nothing_in(tmp_path)


def test_too_large_a_difference_is_refused(small: Path, tmp_path: Path) -> None:
    """int8 is not fp32: with no difference allowed, nothing is written, and the option is named."""
    ran = run("export", small, "--output", tmp_path / "model", "--max-difference", "0")
    assert (ran.returncode, "--max-difference allows 0" in ran.stderr) == (1, True), ran.stderr
    assert_nothing_in(tmp_path)


def test_a_full_disk_leaves_nothing(small: Path, tmp_path: Path) -> None:
    """A write that fails half-way (here: files of at most 1 MB) ends the export with the system's words."""
    limit = 2**20
    ran = run(
        "export", small, "--output", tmp_path / "model",
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert (ran.returncode, "was not written" in ran.stderr) == (1, True), ran.stderr
    assert_nothing_in(tmp_path)


def test_an_interrupted_export_leaves_nothing(small: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle of it removes what had been written."""
    command = [sys.executable, "-m", "streamgauge", "export", str(small), "--output", str(tmp_path / "model")]
    process = subprocess.Popen([*command], stdout=subprocess.PIPE, text=True, env={"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    assert process.stdout.readline() == "exporting with optimum\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert_nothing_in(tmp_path)
