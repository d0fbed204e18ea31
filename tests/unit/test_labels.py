"""Labels as people write them become the model's classes only where that is certain."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.errors import ConfigurationError
from streamgauge.labels import meaning, read_map, refusal

TWO = ("NEGATIVE", "POSITIVE")
THREE = ("neg", "neu", "pos")


@pytest.mark.parametrize(
    ("labels", "models", "expected"),
    [
        (["POSITIVE"], [TWO], ["POSITIVE"]),
        (["positive", "Negative"], [TWO], ["POSITIVE", "NEGATIVE"]),
        (["neg", "NEU"], [THREE], ["neg", "neu"]),
        (["pos", "Pos"], [("pos", "Pos")], ["pos", "Pos"]),
        (["positive", "neu"], [TWO, THREE], ["POSITIVE", "neu"]),
        (["0", "1"], [TWO], ["NEGATIVE", "POSITIVE"]),
        (["1.0", "0.0"], [TWO], ["POSITIVE", "NEGATIVE"]),
        (["LABEL_1", "LABEL_0"], [TWO], ["POSITIVE", "NEGATIVE"]),
        (["2", "1", "0"], [THREE], ["pos", "neu", "neg"]),
        (["1.0", "2"], [("1", "2", "3.0")], ["1", "2"]),
        (["1", "0"], [("1", "0")], ["1", "0"]),
        (["whatever", "1.0"], [], ["whatever", "1.0"]),
    ],
)
def test_what_labels_mean(labels: list[str], models: Sequence[tuple[str, ...]], expected: list[str]) -> None:
    """By name, by case, as a whole number, by the class's number where all are there; as they are if nobody knows."""
    assert meaning(labels, models, {}) == (dict(zip(labels, expected, strict=True)), [])


@pytest.mark.parametrize(
    ("labels", "models"),
    [
        (["4", "0"], [TWO]),
        (["1", "2"], [TWO]),
        (["-1", "0", "1"], [TWO]),
        (["5", "1", "3"], [TWO]),
        (["1"], [TWO]),
        (["pos"], [TWO]),
        (["true"], [TWO]),
        (["PoS"], [("pos", "Pos")]),
        (["0", "1"], [TWO, ("BAD", "GOOD")]),
        (["1.5"], [("1", "2")]),
    ],
)
def test_what_cannot_be_known(labels: list[str], models: Sequence[tuple[str, ...]]) -> None:
    """Other alphabets, half an alphabet, two models: nothing is guessed."""
    assert meaning(labels, models, {}) == ({}, labels)


def test_some_fit() -> None:
    """A number beside names is no class's number."""
    assert meaning(["POSITIVE", "0", "1"], [TWO], {}) == ({"POSITIVE": "POSITIVE"}, ["0", "1"])


def test_the_user_has_the_first_word() -> None:
    """What the user says of a label counts before all else: also that it is left out, or sent as it is."""
    meant = read_map("1=positive, 2=NEGATIVE,3=,mixed=mixed")

    assert meaning(["1.0", "2", "3", "mixed", "NEGATIVE"], [TWO], meant) == (
        {"1.0": "POSITIVE", "2": "NEGATIVE", "3": None, "mixed": "mixed", "NEGATIVE": "NEGATIVE"},
        [],
    )
    assert meaning(["0", "1"], [TWO], {"1": "POSITIVE"}).misfits == ["0"]
    with pytest.raises(ConfigurationError, match="1=POSTIVE: the model's classes are NEGATIVE, POSITIVE"):
        meaning(["1"], [TWO], {"1": "POSTIVE"})


@given(st.lists(st.text(max_size=5)), st.lists(st.lists(st.text(min_size=1, max_size=5), unique=True).map(tuple)))
def test_every_label_has_one_fate(labels: list[str], models: list[tuple[str, ...]]) -> None:
    """Each becomes a class, or is said to fit none; a class of exactly that name is never another one."""
    of, misfits = meaning(labels, models, {})
    classes = {name for model in models for name in model}
    assert {*of, *misfits} == set(labels)
    assert not set(of) & set(misfits)
    for label, name in of.items():
        assert name == label if label in classes or not models else name in classes


def test_map_from_a_file(tmp_path: Path) -> None:
    """A file has a pair a line; commas belong to the label there."""
    (tmp_path / "map.txt").write_text("1=POSITIVE\n\nno, never = NEGATIVE\n")
    assert read_map(str(tmp_path / "map.txt")) == {"1": "POSITIVE", "no, never": "NEGATIVE"}
    assert read_map(None) == {}


@pytest.mark.parametrize("given_map", ["no-such-file", "1=A,2", "=A", "1=A,1=B"])
def test_broken_map(given_map: str) -> None:
    """A map that says nothing, or two things, is refused."""
    with pytest.raises(ConfigurationError, match="--label-map"):
        read_map(given_map)


def test_refusal_says_what_to_do() -> None:
    """How many labels of which kinds fit no class, which classes there are, and what to type."""
    labels = Counter({"4": 10, "0": 9, "NEGATIVE": 1, **{f"odd {number}": 1 for number in range(5)}})
    misfits = meaning(labels, [TWO], {}).misfits

    assert refusal("a.csv", labels, misfits, [TWO]) == (
        "a.csv: 24 of 25 labels fit no class of the model (NEGATIVE, POSITIVE): "
        "4 (10), 0 (9), odd 0 (1), odd 1 (1), odd 2 (1), 2 more; nothing was done\n"
        "say what they mean: --label-map 4=CLASS,0=CLASS,odd 0=CLASS,odd 1=CLASS,odd 2=CLASS "
        "(LABEL= leaves it out, LABEL=LABEL sends it all the same)"
    )
