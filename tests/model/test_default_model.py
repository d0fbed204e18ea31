"""The model that comes along: right, the same whatever its batch-mates, and refused when it is not itself."""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from producer.corpus import bundled
from streamgauge.commands.demo import ABOUT_THE_SAMPLE
from streamgauge.errors import ConfigurationError, StreamgaugeError
from tests.cluster import ROOT
from worker.model.directory import SCORED_FILES
from worker.model.session import OnnxModel
from worker.service import load_model
from worker.settings import WorkerSettings

DIRECTORY = WorkerSettings().model_dir


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel.load(DIRECTORY, max_tokens=512)


def test_it_gives_its_known_answers(model: OnnxModel) -> None:
    """The files in the repository belong together."""
    model.verify()
    assert model.labels == ("NEGATIVE", "POSITIVE")
    assert model.ref.key == "distilbert-sst2-compact@2.0.0"


def test_it_is_right_more_often_than_not(model: OnnxModel) -> None:
    """On labelled reviews and tweets, which it was not trained on, it is far above the majority class: as often as the
    README and the demo say.
    """
    samples = [sample for sample in bundled() if sample.label]
    encoded = [ids for ids, _truncated in model.encode([sample.text for sample in samples])]
    predicted = [model.labels[int(np.argmax(model.score([ids])))] for ids in encoded]
    correct = sum(label == sample.label for label, sample in zip(predicted, samples, strict=True))
    share = f"{correct / len(samples):.0%}".replace("%", " %")
    assert f"of which the model gets {share} right" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"gets {share} of them right" in ABOUT_THE_SAMPLE


def test_it_is_calibrated() -> None:
    """Its logits are divided by a temperature that was fitted, not left at 1."""
    temperature = json.loads((DIRECTORY / "config.json").read_text())["streamgauge"]["temperature"]
    assert 0.3 < temperature < 3
    assert temperature != 1


def test_the_card_is_about_these_files() -> None:
    """Every digest on the model card is that of the file beside it, and the scored files are all there."""
    card = (DIRECTORY / "model-card.md").read_text()
    digests = dict(re.findall(r"^\| `([\w.-]+)` \| `([0-9a-f]{64})` \|$", card, re.MULTILINE))
    assert set(digests) == set(SCORED_FILES)
    for name, digest in digests.items():
        assert hashlib.sha256((DIRECTORY / name).read_bytes()).hexdigest() == digest


def test_a_score_does_not_depend_on_batch_mates(model: OnnxModel) -> None:
    """Alone or padded among longer texts, the same text has the same score (1e-5)."""
    dice = random.Random(1)
    texts = [sample.text for sample in bundled()[:64]] + ["fine " * 400, "x"]
    encoded = [ids for ids, _truncated in model.encode(texts)]
    alone = [model.score([ids])[0] for ids in encoded]
    for _round in range(3):
        order = dice.sample(range(len(texts)), len(texts))
        for start in range(0, len(order), 7):
            batch = order[start : start + 7]
            together = model.score([encoded[index] for index in batch])
            assert np.abs(together - np.array([alone[index] for index in batch])).max() < 1e-5


def test_long_texts_are_truncated_and_flagged(model: OnnxModel) -> None:
    """What is longer than the model reads is cut, keeps its end token, and says so."""
    [(ids, truncated), (short, whole)] = model.encode(["word " * 1000, "word"])
    assert (len(ids), truncated, ids[-1]) == (512, True, short[-1])
    assert not whole


@pytest.mark.parametrize(
    "text", ["\N{PARTY POPPER}" * 300, "\u202eright to left\u202c", "a\0b", "x" * 100_000, "é" * 9]
)
def test_any_text_has_a_score(model: OnnxModel, text: str) -> None:
    """Emoji, other scripts, NUL and endless words give probabilities that add up."""
    [(ids, _truncated)] = model.encode([text])
    assert model.score([ids]).sum() == pytest.approx(1)


def test_a_broken_directory_is_refused_by_name(tmp_path: Path) -> None:
    """Missing, unreadable and mismatched files each stop the start with a message that names them."""
    with pytest.raises(ConfigurationError, match=r"^STREAMGAUGE_WORKER_MODEL_DIR: cannot read .*config.json"):
        load_model(WorkerSettings(model_dir=tmp_path))
    copy = shutil.copytree(DIRECTORY, tmp_path / "model")
    (copy / "model.onnx").write_bytes(b"not onnx")
    with pytest.raises(ConfigurationError, match="cannot load"):
        OnnxModel.load(copy, 512)
    shutil.copy(DIRECTORY / "model.onnx", copy)
    known = json.loads((copy / "known-answers.json").read_text())
    scores = known["texts"][0]["scores"]
    scores["POSITIVE"], scores["NEGATIVE"] = scores["NEGATIVE"], scores["POSITIVE"]
    (copy / "known-answers.json").write_text(json.dumps(known))
    with pytest.raises(StreamgaugeError, match="fails its known-answer texts"):
        OnnxModel.load(copy, 512).verify()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"id2label": {"0": "BAD", "1": "GOOD"}}, "known-answers.json is of another model"),
        ("config.json", {"id2label": {"0": "BAD", "2": "GOOD"}}, "must name each number from 0"),
        ("config.json", {"id2label": {"0": "A", "1": "B", "2": "C"}}, "not logits for 3 labels"),
        ("config.json", {"id2label": {"0": "ONLY"}}, "config.json: .*id2label"),
        ("config.json", {"streamgauge": {"temperature": 0}}, "config.json: .*temperature"),
        ("known-answers.json", {"texts": []}, "known-answers.json: .*texts"),
        ("known-answers.json", {"digest": "sha256:0"}, "its digest is sha256:0, that of config.json, model.onnx"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    """Labels, temperature, digest and answers are checked before anything is scored."""
    copy = shutil.copytree(DIRECTORY, tmp_path / "model")
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | change))
    with pytest.raises(ConfigurationError, match=message):
        OnnxModel.load(copy, 512)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    """A BERT, which also takes token types, cannot be fed."""
    copy = shutil.copytree(DIRECTORY, tmp_path / "model")
    graph = onnx.load(copy / "model.onnx")
    graph.graph.input.append(onnx.helper.make_tensor_value_info("token_type_ids", onnx.TensorProto.INT64, ["a", "b"]))
    onnx.save(graph, copy / "model.onnx")
    with pytest.raises(ConfigurationError, match=r"takes \['attention_mask', 'input_ids', 'token_type_ids'\]"):
        OnnxModel.load(copy, 512)
