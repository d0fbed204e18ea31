"""What strangers have written steers no terminal, wherever it is shown."""

import pytest

from feedback_listener import reconcile
from feedback_listener.reconcile import Difference
from streamgauge.commands import stats
from streamgauge.terminal import harmless

EVIL = "evil[/nope]\x1b[2J\x07"


@pytest.mark.parametrize("text", ["\x1b[31mred", "bell\x07", "\u202eright to left", "\x9b2J"])
def test_nothing_steers_the_terminal(text: str) -> None:
    """Control and direction characters, which an id or a value may hold, are written out."""
    assert harmless(text).isprintable()
    assert harmless(text) != text


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the line ends."""
    return "".join(capsys.readouterr().out.split("\n"))


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither control characters nor Rich's markup."""
    stats.show({EVIL: dict.fromkeys(stats.COLUMNS)})
    assert r"evil[/nope]\x1b[2J\x07" in shown(capsys)
    reconcile._print(
        [{"listener": EVIL, "series": 1, "differences": 1}],
        [Difference(listener=EVIL, series=EVIL, shown=1, recounted=2)],
    )
    found = shown(capsys)
    assert found.isprintable()
    assert found.count("[/nope]") == 3
