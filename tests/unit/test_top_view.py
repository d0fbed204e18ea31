"""A picture on terminals of all widths, in colours and without, of all characters and of ASCII alone; and in a pipe."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

from feedback_listener.moment import Share
from streamgauge.commands.top.picture import Said
from streamgauge.commands.top.screen import Screen
from streamgauge.commands.top.view import ASCII_BARS, BARS, Frame, spark
from streamgauge.commands.top.words import one_line
from tests.pictures import HISTORY, NOTHING_KNOWN, PICTURE, WORKERS
from tests.unit.test_terminal import EVIL

WIDTHS = (60, 80, 120, 250)
FRAME = Frame(PICTURE, "Streamgauge, localhost:9092", "q ends")
READABLE = {None, "green", "red"}
"""On light and on dark, by the colours that terminals come with."""


def terminal(width: int, encoding: str = "utf-8", **options: object) -> Console:
    """One that refuses, with an error, what it has no character for."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n", write_through=True)
    return Console(file=file, width=width, height=40, force_terminal=True, **options)  # type: ignore[arg-type]


def shown(console: Console, frame: Frame = FRAME) -> str:
    console.print(frame)
    assert isinstance(console.file, io.TextIOWrapper)
    assert isinstance(console.file.buffer, io.BytesIO)
    return console.file.buffer.getvalue().decode()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso8859-1"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_and_character_set(width: int, encoding: str) -> None:
    """Each line is as wide as the terminal; the numbers are there; strangers' characters are escaped or shown."""
    lines = shown(terminal(width, encoding, color_system=None)).splitlines()
    assert {cell_len(line) for line in lines} == {width}
    text = "\n".join(lines)
    for part in ("49", "p50 61 ms, p99 182 ms", "1,234 without partition 3", "3 in 7 min", "700 published"):
        assert part in text
    for part in ("92.1 %  88.0 to 96.4 %  240 labels", "83.5 %  81.3 to 85.4 %  1,234 labels", "gone 42 s", "ready"):
        assert part in text
    assert text.isascii() == (encoding != "utf-8")
    assert ("日本語" in text) == (encoding == "utf-8")


def test_wider_terminals_show_more() -> None:
    """Latencies of workers and the remarks from 80 columns on, memory from 120, two halves side by side at 250."""
    at = {width: shown(terminal(width, color_system=None)) for width in WIDTHS}
    for part, narrowest in {"170 ms": 80, "241 MB": 120, "chosen by chance": 120, "holds ": 80}.items():
        assert [width for width in WIDTHS if part in at[width]] == [width for width in WIDTHS if width >= narrowest], (
            part
        )
    assert len(at[250].splitlines()) < len(at[120].splitlines()) - 5


def test_an_audit_that_has_not_matured_is_for_one_look() -> None:
    """Its interval is Wilson's then, and that is said; without a label there is none."""
    [accuracy] = PICTURE.accuracies
    for audit, part in ((accuracy.audit, "92.0 %  88.0 to 94.8 %  250 labels"), (Share(0, 0), "no labels yet")):
        found = PICTURE._replace(accuracies=[accuracy._replace(sequence=None, audit=audit)])
        frame = shown(terminal(120, color_system=None), Frame(found, "", ""))
        assert part in frame
        assert "chosen by chance; holds for one look until labels mature" in frame


def test_no_colour_is_needed_and_none_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the same words. With colours: the terminal's own, and none that fades on light or on dark."""
    console = terminal(120, color_system="truecolor")
    styles = [segment.style or Style() for segment in console.render(FRAME)]
    assert {style.color and style.color.name for style in styles} == READABLE
    assert {style.bgcolor for style in styles} == {None}
    coloured = shown(console)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(terminal(120, color_system="truecolor"))
    assert re.search(r"\x1b\[3[12]m", coloured)
    assert not re.search(r"\x1b\[[0-9;]*3\d", plain)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == re.sub(r"\x1b\[[\d;]*m", "", plain)


def test_what_is_not_known_is_no_zero() -> None:
    """Neither in a frame nor in a line is there a digit."""
    frame = shown(terminal(80, color_system=None), Frame(NOTHING_KNOWN, "Streamgauge", "q ends"))
    assert not re.search(r"\d", frame.replace("p50", "").replace("p99", ""))
    assert "not known" in frame
    line = one_line(NOTHING_KNOWN, "now").replace("p50", "").replace("p99", "")
    assert line == "now  - texts/s  latency  -  -  lag not known  dead letters not known  workers 0 ready"


def test_a_line_says_all_that_a_frame_says() -> None:
    """In ASCII but for names; it steers no terminal."""
    line = one_line(PICTURE._replace(problems=[EVIL]), "12:00:00Z")
    assert line.startswith("12:00:00Z  published 700  49 texts/s  latency p50 61 ms p99 182 ms  lag 1,234 without")
    assert "audit 92.1 %, 88.0 to 96.4 %, 240 labels; all 83.5 %, 81.3 to 85.4 %, 1,234 labels" in line
    assert "workers 1 ready, host-b-4a5b6c in the group, host-c-with-a-name-that-never-ends-7d8e9f gone" in line
    assert line.isprintable()
    assert line.isascii()
    assert "lovely" not in line


def test_strangers_steer_no_terminal() -> None:
    """Texts, labels, names and what replicas answer."""
    picture = PICTURE._replace(
        said=[Said(EVIL, EVIL, 0.9)],
        workers=[WORKERS[0]._replace(name=EVIL)],
        accuracies=[PICTURE.accuracies[0]._replace(model=EVIL)],
        problems=[EVIL],
    )
    lines = shown(terminal(120, color_system=None), Frame(picture, EVIL, "q ends")).splitlines()
    assert all(line.isprintable() for line in lines)
    assert "\n".join(lines).count(r"evil[/nope]\x1b[2J\x07") == 6


def test_many_replicas_leave_room_for_the_rest() -> None:
    """A third of the terminal's lines each, and how many more there are."""
    workers = [WORKERS[0]._replace(name=f"host-{number}") for number in range(100)]
    frame = shown(terminal(80, color_system=None), Frame(PICTURE._replace(workers=workers), "", ""))
    assert "host-12" in frame
    assert "host-13" not in frame
    assert "and 87 more" in frame


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=50), st.integers(0, 60), st.sampled_from([BARS, ASCII_BARS]))
def test_a_spark_line_is_as_long_as_its_values(values: list[float | None], width: int, bars: str) -> None:
    """The largest has the highest bar, 0 the lowest; a blank is not known."""
    line = spark(values, width, bars)
    kept = values[-width:] if width else []
    most = max((value for value in kept if value is not None), default=0)
    assert len(line) == len(kept)
    for bar, value in zip(line, kept, strict=True):
        assert bar == " " if value is None else bar in bars
        assert bar == bars[0] if value == 0 else bar == bars[-1] if value == most else True


def test_the_newest_is_at_the_right() -> None:
    assert spark([5.0, None, 0.0, 7.0, 14.0], 4, ASCII_BARS) == " _:#".replace(":", ASCII_BARS[4])
    assert spark(HISTORY, 0, BARS) == ""


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_go_back_gets_lines(
    term: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a pipe does."""
    monkeypatch.setenv("TERM", term)
    screen = Screen(Console(force_terminal=True), "", "", is_whole=True)
    assert not screen.is_live
    with screen.running():
        assert screen.update(lambda: PICTURE)
        assert screen.update(lambda: PICTURE)  # too soon: not shown
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out


def test_a_whole_screen_is_given_back() -> None:
    """It is shown on the terminal's other screen, which is left at the end."""
    console = terminal(80)
    screen = Screen(console, "title", "q ends", is_whole=True)
    with screen.running():
        screen.update(lambda: PICTURE)
    written = shown(console)
    assert written.index("\x1b[?1049h") < written.index("49") < written.index("\x1b[?1049l")
