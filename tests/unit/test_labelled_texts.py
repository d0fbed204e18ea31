"""What `streamgauge export --data` measures a model with: the files and labels that `produce` and `feedback` take."""

from pathlib import Path

import pytest

from producer.corpus import texts_and_labels
from streamgauge.errors import ConfigurationError
from worker.model_making.checkpoint import class_names
from worker.model_making.labelled_texts import LabelledTexts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"text": "fine", "label": 1.0}, {"text": "poor", "label": 0}, {"text": "so", "label": null}]'),
        ("a.csv", "Review;Sentiment\nfine;1\npoor;0\nso;\n"),
        ("a.tsv", "sentence\tlabel\nfine\t1\npoor\t0\nso\t\n"),
    ],
)
def test_any_file_of_texts_and_labels_will_do(tmp_path: Path, name: str, content: str) -> None:
    """A text without a label judges nobody; numbers stand for the classes where all of them are there."""
    (tmp_path / name).write_text(content)
    judged = LabelledTexts(name, *texts_and_labels(tmp_path / name)).judged_by(("bad", "good"))
    assert (judged.texts, judged.labels) == (["fine", "poor"], ["good", "bad"])


def test_labels_that_fit_no_class_are_refused() -> None:
    """Nothing is guessed: 4 may be anything. What the user leaves out is not measured."""
    data = LabelledTexts("a.csv", ["fine", "poor", "so"], ["4", "bad", "0"], {"4": "good"})
    with pytest.raises(ConfigurationError, match=r"a.csv: 1 of 3 labels fit no class of the model \(bad, good\): 0 "):
        data.judged_by(("bad", "good"))
    kept = LabelledTexts("a.csv", data.texts, data.labels, {"4": "good", "0": ""}).judged_by(("bad", "good"))
    assert (kept.texts, kept.labels) == (["fine", "poor"], ["good", "bad"])
    with pytest.raises(ConfigurationError, match=r"a.csv: no label is left of 3"):
        LabelledTexts("a.csv", data.texts, ["4"] * 3, {"4": ""}).judged_by(("bad", "good"))


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    """By name, before anything is exported."""
    (tmp_path / "a.csv").write_text("text,label\nfine,\n")
    with pytest.raises(ConfigurationError, match="no text in it has a label"):
        texts_and_labels(tmp_path / "a.csv")


def test_a_checkpoint_must_name_each_class() -> None:
    """As numbers, or as JSON has them."""
    assert class_names({"id2label": {0: "bad", "1": "good"}}) == ("bad", "good")
    with pytest.raises(ConfigurationError, match="id2label"):
        class_names({"id2label": {0: "bad", 1: "bad"}})
