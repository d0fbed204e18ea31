"""`streamgauge inspect`, and `export` as far as it goes without PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from streamgauge.errors import ConfigurationError, StreamgaugeError
from tests.cluster import ROOT
from worker.model.reference_profile import accuracy_by_length, profile_of, read_profile, write_profile
from worker.model.session import OnnxModel
from worker.model_making.export import Options, export, new_directory
from worker.model_making.inspection import LENGTHS_TOKENS, Architecture, inspect, lines
from worker.settings import WorkerSettings

DIRECTORY = WorkerSettings().model_dir


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamgauge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_default_model_is_what_it_says() -> None:
    """One JSON object; the digest and the known answers are right, and every length has been timed."""
    ran = run("inspect", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["digest_matches"], report["known_answers_match"]) == (True, True)
    assert report["quantization"] == "int8-rows"
    assert report["bytes"] <= 25_000_000
    assert [timing["tokens"] for timing in report["timings"]] == list(LENGTHS_TOKENS)
    assert all(timing["us_per_token"] > 0 for timing in report["timings"])


def test_a_model_in_several_files_is_refused(tmp_path: Path) -> None:
    """The digest is of one file; weights in another could be exchanged, and nobody would see it."""
    shutil.copytree(DIRECTORY, tmp_path / "model")
    path = tmp_path / "model" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights")
    with pytest.raises(ConfigurationError, match="keeps weights in other files"):
        OnnxModel.load(tmp_path / "model", 512)


def test_the_reference_profile_is_read_and_told() -> None:
    """The default model's profile is of the one type that there is, and a person sees a line of it."""
    profile = read_profile(DIRECTORY)
    assert profile
    assert profile.labelled_texts == 872
    assert sum(profile.confidence_histogram) == pytest.approx(1)
    [line] = [line for line in lines(inspect(DIRECTORY)) if line.startswith("profile")]
    assert line.startswith(f"profile        {profile.accuracy:.1%} of 872 labelled texts right")


def test_a_profile_counts_what_its_fields_say(tmp_path: Path) -> None:
    """Four texts by hand: lengths, unknown tokens (9), predicted labels, confidences, accuracy by length."""
    rows = [[1, 5, 2], [1, 9, 9, 2], [1, *[5] * 18, 2], [1, *[5] * 30, 9, 2]]
    scores = np.array([[0.9, 0.1], [0.35, 0.65], [0.0, 1.0], [0.25, 0.75]])
    right = np.array([True, False, True, True])
    profile = profile_of(rows, 9, scores, ("bad", "good"), accuracy_by_length(right, rows))
    assert (profile.texts, profile.scored_texts, profile.labelled_texts) == (4, 4, 4)
    assert profile.token_length_quantiles["0.5"] in (4, 20)
    assert profile.unknown_token_share == pytest.approx(3 / (1 + 2 + 18 + 31), abs=1e-6)
    assert profile.texts_with_unknown_tokens == 0.5
    assert profile.score_mix == {"bad": 0.25, "good": 0.75}
    assert profile.mean_confidence == pytest.approx((0.9 + 0.65 + 1.0 + 0.75) / 4)
    assert profile.confidence_histogram == [0, 0, 0, 0, 0, 0, 0.25, 0.25, 0, 0.5]
    assert {name: part.accuracy for name, part in profile.accuracy_by_length.items()} == {
        "1-16": 0.5,
        "17-32": 1,
        "33-512": 1,
    }
    assert profile.accuracy == 0.75
    write_profile(profile, tmp_path)
    assert read_profile(tmp_path) == profile


def test_who_asks_for_the_protocol_loads_no_runtime() -> None:
    """The scorer's protocol, the directory's files and the profile cost no ONNX Runtime and no tokenizer."""
    code = (
        "import sys, worker.model.scorer, worker.model.directory, worker.model.reference_profile\n"
        "sys.exit(bool({'onnxruntime', 'tokenizers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_altered_model_is_told_apart(tmp_path: Path) -> None:
    """Another temperature is another model: the report says what is wrong, and the exit code is 1."""
    copy = shutil.copytree(DIRECTORY, tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    config["streamgauge"]["temperature"] = 9.0
    (copy / "config.json").write_text(json.dumps(config))
    ran = run("inspect", copy)
    assert (ran.returncode, "is NOT the one recorded" in ran.stdout, "WRONG" in ran.stdout) == (1, True, True)
    assert not inspect(copy).sound


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    """A folder without a model: exit code 2 and the file that is missing."""
    ran = run("inspect", tmp_path)
    assert (ran.returncode, f"cannot read {tmp_path / 'config.json'}" in ran.stderr) == (2, True)
    with pytest.raises(ConfigurationError):
        inspect(tmp_path)


def test_parameters_are_counted() -> None:
    """DistilBERT with two labels has 66,955,010."""
    assert Architecture("distilbert", 6, 12, 768, 3072, 30522, 512, {"0": "a", "1": "b"}).parameters == 66_955_010


def test_export_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing and what to type, nothing written."""
    monkeypatch.setattr("worker.model_making.export.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"needs torch, .*: pip install '\.\[export\]'"):
        export("somewhere", tmp_path / "model", Options(), print)
    assert list(tmp_path.iterdir()) == []


def fail_half_way(output: Path, failure: BaseException) -> None:
    with new_directory(output) as partial:
        (partial / "half").write_text("written")
        raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path, failure: BaseException) -> None:
    """It takes its name at the end; what fails on the way leaves nothing, and what is there is never replaced."""
    output = tmp_path / "new" / "model"
    with pytest.raises((KeyboardInterrupt, StreamgaugeError)):
        fail_half_way(output, failure)
    assert list(output.parent.iterdir()) == []
    with new_directory(output) as partial:
        (partial / "whole").write_text("written")
        assert not output.exists()
    assert [path.name for path in output.iterdir()] == ["whole"]
    with pytest.raises(ConfigurationError, match="exists already"), new_directory(output):
        pass
