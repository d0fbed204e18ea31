"""How strangers' words and our numbers are shown: nothing in a text or a label is markup, and no text is endless."""

import html
import re
from collections.abc import Sequence

from streamgauge.commands.page.history import Rate
from streamgauge.commands.page.shelf import MAX_SHOWN_CHARS
from streamgauge.terminal import harmless

MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!~|<>:$&])")
SHORT_CHARS = 90


def plain(line: str) -> str:
    """A label or id for a place where Streamlit reads Markdown."""
    return MARKUP.sub(r"\\\1", harmless(line))


def short(text: str | None) -> str:
    """The beginning of a text in one line; a text that is gone says so."""
    if text is None:
        return "(no longer retained)"
    line = " ".join(text.split())
    return line if len(line) <= SHORT_CHARS else f"{line[: SHORT_CHARS - 1]}…"


def card(text: str, turn: str = "", keys: str = "") -> str:
    """A text as HTML, its lines as they are; told to a screen reader when it changes.

    `turn`, `keys`: what `keys.js` has to know of a text that is to be labelled.
    """
    shown = text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1.25rem; line-height: 1.5; margin: 0"
    mark = f' data-turn="{turn}" data-keys="{keys}"' if turn else ""
    return f'<p role="status" aria-live="polite" dir="auto"{mark} style="{style}">{html.escape(shown)}</p>'


def turn_mark(turn: str, keys: str) -> str:
    """The same for a turn without a text."""
    return f'<span data-turn="{turn}" data-keys="{keys}"></span>'


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As HTML, because Streamlit's own tables make links of addresses in texts. Scrolls where it is too wide."""
    style = "text-align: left; padding: 0.4rem 0.8rem 0.4rem 0; border-bottom: 1px solid #8884; min-width: 4rem"
    head = "".join(f'<th scope="col" style="{style}">{html.escape(name)}</th>' for name in names)
    lines = "".join(f"<tr>{''.join(_cell(word, style) for word in row)}</tr>" for row in rows)
    return (
        '<div tabindex="0" role="region" aria-label="Last labels" style="overflow-x: auto">'
        f'<table style="width: 100%; border-collapse: collapse"><tr>{head}</tr>{lines}</table></div>'
    )


def _cell(word: str, style: str) -> str:
    return f'<td dir="auto" style="{style}; overflow-wrap: anywhere">{html.escape(harmless(word))}</td>'


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(rate: Rate) -> str:
    """`88.0 to 93.9 %, from 412 labels`."""
    labels = "1 label" if rate.n == 1 else f"{rate.n:,} labels"
    return f"{100 * rate.low:.1f} to {percent(rate.high)}, from {labels}"


def duration(seconds: float | None) -> str:
    """`87 ms`, `2.3 s`."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
