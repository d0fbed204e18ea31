"""One labeller's way through the texts: which is shown, what an answer to it means, and the way back. Pure.

Each showing of a text is a turn. An answer belongs to the turn in which its button was made, so a second click on the
same button means nothing. Nor does an answer before anybody can have looked at the text; `keys.js`, which knows when it
was painted, is stricter.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from streamgauge.commands.page.choosing import Item

LOOK_S = 0.2
MAX_BEHIND = 100


class Shown(NamedTuple):
    """A text as it was given out."""

    item: Item
    text: str


@dataclass
class Walk:
    """Of one session. Times are seconds on any clock that never goes back."""

    labeller: str
    turn: int = 0
    """Changes with each showing."""
    current: Shown | None = None
    labels: dict[str, str] = field(default_factory=dict)
    """What this labeller has said, by id; of texts on the way back as well."""
    _ahead: list[Shown] = field(default_factory=list)
    """What was undone, the next one last."""
    _behind: list[Shown] = field(default_factory=list)
    _drawn_s: float | None = None
    """When the current text was drawn first."""

    @property
    def can_undo(self) -> bool:
        return bool(self._behind)

    @property
    def key(self) -> str:
        """Of this turn, among all sessions."""
        return f"{self.labeller}/{self.turn}"

    def show(self, shown: Shown | None) -> None:
        """The next one, where `wants_more` said so; None: there is none."""
        self.current, self._drawn_s = shown, None
        self.turn += 1

    def drawn(self, now_s: float) -> None:
        """The page draws the current text now; from the first time on, somebody may look at it."""
        if self._drawn_s is None:
            self._drawn_s = now_s

    @property
    def wants_more(self) -> bool:
        """Whether the next text has to be fetched."""
        return self.current is None

    def counts(self, turn: int, now_s: float) -> bool:
        """Whether an answer that was made in this turn is one."""
        return turn == self.turn and self._drawn_s is not None and now_s - self._drawn_s >= LOOK_S

    def answer(self, label: str) -> None:
        """The current one has this label now."""
        assert self.current
        self.labels[self.current.item.id] = label
        self.skip()

    def skip(self) -> None:
        """On to the next one."""
        assert self.current
        self._behind = [*self._behind, self.current][-MAX_BEHIND:]
        self.show(self._ahead.pop() if self._ahead else None)

    def undo(self) -> None:
        """Back to the one before, if there is one; the label that it has got stands until it gets another."""
        if self._behind:
            if self.current:
                self._ahead.append(self.current)
            self.show(self._behind.pop())
