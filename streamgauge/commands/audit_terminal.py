"""Asking a person for a label, one text at a time: what is shown, and which key means what."""

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from streamgauge.commands.audit_queue import Audited
from streamgauge.commands.keyboard import keys, typed
from streamgauge.terminal import cell

MAX_SHOWN_CHARS = 4000
"""More than a model reads of a text."""
MAX_KEYS = 9
"""Of classes; the number of one among more than these is ended with Enter."""
UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1000}


class Step(Enum):
    """What a labeller may do with a text besides labelling it."""

    SKIP = "s"
    UNDO = "u"
    QUIT = "q"


Choice = str | Step | None
"""A class, a step, or nothing that could be understood."""


def choice(typed: bytes, classes: Sequence[str]) -> Choice:
    """What one key means, or one line. An arrow's bytes mean nothing, although there are letters among them."""
    if not typed or typed.startswith(b"\x04"):  # the end of input, and Ctrl-D where single keys are read
        return Step.QUIT
    word = typed.decode(errors="replace").strip().lower()
    if word in [step.value for step in Step]:
        return Step(word)
    if word.isascii() and word.isdecimal() and 1 <= int(word) <= len(classes):
        return classes[int(word) - 1]
    return None


class Way:
    """A labeller's way through what is to be labelled. Pure: says which is next, and counts."""

    def __init__(self, audited: Iterable[Audited]) -> None:
        self._ahead = deque(audited)
        self._behind: list[Audited] = []
        self.labelled: set[str] = set()
        """By id."""
        self.lost = 0
        """So many had no text when it was their turn."""
        self._total = len(self._ahead)

    @property
    def current(self) -> Audited | None:
        """The one to be shown; None at the end."""
        return self._ahead[0] if self._ahead else None

    @property
    def left(self) -> int:
        """Without a label, and not known to be without a text; those that were skipped are among them."""
        return self._total - self.lost - len(self.labelled)

    def answer(self) -> None:
        """The current one has been labelled; once more, if it was so before."""
        self.labelled.add(self._ahead[0].id)
        self.skip()

    def skip(self) -> None:
        self._behind.append(self._ahead.popleft())

    def lose(self) -> None:
        """The text of the current one is gone."""
        self.lost += self._ahead.popleft().id not in self.labelled

    def undo(self) -> None:
        """Back to the one before, if there is one; a label that it has got stands until it gets another."""
        if self._behind:
            self._ahead.appendleft(self._behind.pop())


class Terminal:
    """Where a labeller sits. `keyboard`: the file descriptor of a terminal."""

    def __init__(self, console: Console, keyboard: int) -> None:
        self._console, self._keyboard = console, keyboard

    async def ask(self, audited: Audited, text: str, *, left: int, now_ms: int) -> str | Step:
        """Show a text, and wait for an answer to it. What was typed before it was shown is thrown away."""
        is_single = len(audited.classes) <= MAX_KEYS
        self._show(audited, text, f"{left} left; this one waits for {waiting(now_ms - audited.at_ms)}")
        while True:
            with keys(self._keyboard, is_single=is_single):
                self._console.print("> ", end="")
                answer = choice(await typed(self._keyboard), audited.classes)
            said = answer.name.lower() if isinstance(answer, Step) else answer
            self._console.print(cell(said or f"a number from 1 to {len(audited.classes)}, or s, u, q"))
            if answer:
                return answer

    def _show(self, audited: Audited, text: str, title: str) -> None:
        labels = [f"{number} {name}" for number, name in enumerate(audited.classes, start=1)]
        self._console.print(Panel(shown(text), title=title, subtitle=cell(audited.id), title_align="left"))
        self._console.print(cell("   ".join([*labels, "s skip", "u undo", "q end"])))


def shown(text: str) -> Text:
    """The beginning of a text, its lines as they are but for blank ones. It steers no terminal."""
    lines = [cell(line) for line in text[:MAX_SHOWN_CHARS].splitlines() if not line.isspace()]
    if len(text) > MAX_SHOWN_CHARS:
        lines.append(Text(f"({len(text) - MAX_SHOWN_CHARS} more characters)", style="dim"))
    return Text("\n").join(lines)


def waiting(span_ms: int) -> str:
    """A length of time in its largest unit, as people say it."""
    for unit, unit_ms in UNITS_MS.items():
        if span_ms >= unit_ms:
            return f"{span_ms // unit_ms} {unit}"
    return "0 s"
