"""One key a text: what it means, what is shown, and how a labeller goes forth and back."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamgauge.commands.audit_queue import Audited
from streamgauge.commands.audit_terminal import Step, Terminal, Way, choice, shown, waiting
from streamgauge.commands.audit_texts import text_of
from streamgauge.events import Position
from tests.audited import CLASSES, MODEL
from tests.records import FakeRecord
from tests.unit.test_terminal import EVIL

SOURCE = Position(topic="sentiment.input", partition=0, offset=0, timestamp_ms=FakeRecord().timestamp)


def audited(message_id: str, classes: tuple[str, ...] = CLASSES) -> Audited:
    return Audited(message_id, 0, MODEL, classes, SOURCE)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (b"1", "NEGATIVE"),
        (b"2\n", "POSITIVE"),
        (b"s", Step.SKIP),
        (b"U", Step.UNDO),
        (b"q\n", Step.QUIT),
        (b"\x04", Step.QUIT),
        (b"", Step.QUIT),
        (b"0", None),
        (b"3", None),
        (b"11", None),
        (b"\n", None),
        (b"\x1b[A", None),
        (b"\x1b2", None),
        ("²".encode(), None),
        (b"\xff", None),
    ],
)
def test_what_a_key_means(typed: bytes, meant: str | Step | None) -> None:
    """The number of a class, or a step; two keys at once, an arrow and all others mean nothing."""
    assert choice(typed, CLASSES) == meant


def test_the_number_of_a_class_among_many() -> None:
    classes = [f"class {number}" for number in range(1, 29)]
    assert choice(b"28\n", classes) == "class 28"
    assert choice(b"29\n", classes) is None


@given(st.text(), st.integers(0, 5000))
def test_a_text_steers_no_terminal(text: str, more: int) -> None:
    """Its lines are lines, and nothing else in it does anything; of a very long one only the beginning is shown."""
    plain = shown(text + more * "x").plain
    assert all(line.isprintable() for line in plain.split("\n"))
    assert ("more characters" in plain.split("\n")[-1]) == (len(text) + more > 4000)


def test_what_is_shown_tells_nothing_of_the_answer() -> None:
    """Text, classes by number, how many and how long; names are strangers', too."""
    file = io.StringIO()
    terminal = Terminal(Console(file=file, width=100), keyboard=-1)
    terminal._show(audited(EVIL, (EVIL, "POSITIVE")), f"fine\n\n{EVIL}", "3 left; this one waits for 2 d")
    found = file.getvalue()
    assert "".join(found.split("\n")).isprintable()
    assert found.count("[/nope]") == 3
    for part in ("fine", "3 left; this one waits for 2 d", "2 POSITIVE", "s skip", "u undo", "q end"):
        assert part in found


@pytest.mark.parametrize(
    ("span_ms", "words"),
    [(-5, "0 s"), (999, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (7_200_000, "2 h"), (9 * 86_400_000, "9 d")],
)
def test_how_long_it_has_waited(span_ms: int, words: str) -> None:
    assert waiting(span_ms) == words


@given(st.integers(0, 5), st.lists(st.sampled_from(["answer", "skip", "lose", "undo"]), max_size=30))
def test_forth_and_back(count: int, steps: list[str]) -> None:
    """One after the other, and back to the one before, except for texts that are gone. Each is counted once."""
    ids = [str(number) for number in range(count)]
    way = Way(map(audited, ids))
    ahead, behind = list(ids), list[str]()
    labelled, lost = set[str](), set[str]()
    for step in steps:
        assert way.current == (audited(ahead[0]) if ahead else None)
        assert (way.labelled, way.lost, way.left) == (labelled, len(lost), count - len(labelled | lost))
        if step == "undo":
            way.undo()
            ahead[:0] = [behind.pop()] if behind else []
        elif ahead:
            getattr(way, step)()
            own = ahead.pop(0)
            if step == "lose":
                lost |= {own} - labelled
            else:
                behind.append(own)
                labelled |= {own} if step == "answer" else set()


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (FakeRecord(b"a fine film"), "a fine film"),
        (FakeRecord(b'{"text": "fine", "id": "x"}'), "fine"),
        (FakeRecord(b"\xff"), None),
        (FakeRecord(None), None),
        (FakeRecord(b"another", timestamp=SOURCE.timestamp_ms + 1), None),
        (FakeRecord(b"another", offset=1), None),
    ],
)
def test_the_text_is_the_one_that_was_scored(record: FakeRecord, text: str | None) -> None:
    """Read as the worker reads it; what took its offset later is another text."""
    assert text_of(record, SOURCE) == text
