"""Which text a labeller gets next. Pure.

The audit comes first, the oldest text first: it was chosen by chance, so its labels say how right the model is. Then
results of which the model was least sure, and results by the dice, in turn. These two are never mixed up with the
audit: a label says where its text came from.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from streamgauge.commands.audit_queue import Audited
from streamgauge.commands.page.recent import Recent, Seen
from streamgauge.events import Position

HOLD_S = 300.0
"""So long a text is its labeller's alone; who has left does not keep it for ever."""


class Origin(StrEnum):
    """How a text came to its labeller: the `source` of the label. On the wire, and so frozen."""

    AUDIT = "page-audit"
    UNCERTAIN = "page-uncertain"
    RANDOM = "page-random"
    TRY = "page-try"


class Item(NamedTuple):
    """A text to be labelled, without what the model says: who labels it must not know."""

    id: str
    origin: Origin
    classes: tuple[str, ...]
    source: Position


class Chooser:
    """Gives out texts to several labellers, each text to one of them at a time."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._audit: Sequence[Audited] = ()
        self._done: set[str] = set()
        """Labelled here, whether or not that has been read back; or without a text."""
        self._held: dict[str, tuple[str, float]] = {}
        """By id: who has it, and until when."""
        self._skipped: dict[str, set[str]] = defaultdict(set)
        """By labeller."""
        self._is_uncertain_next = True

    def audit(self, unlabelled: Sequence[Audited], recent: Recent) -> None:
        """What is to be labelled of the audit, the oldest first, as it was read just now."""
        self._audit = unlabelled
        self._done &= {one.id for one in unlabelled} | recent.results.keys()

    def audit_left(self, recent: Recent) -> int:
        """So many audited texts have no label, and are not known to be without a text."""
        return sum(1 for one in self._audit if not self._is_done(one.id, one.classes, recent))

    def next(self, labeller: str, recent: Recent, now_s: float) -> Item | None:
        """The next text for this labeller, who holds it from now on; None when there is nothing left."""
        item = next(self._audited(labeller, recent, now_s), None) or self._other(labeller, recent, now_s)
        if item:
            self._held[item.id] = labeller, now_s + HOLD_S
        return item

    def done(self, message_id: str) -> None:
        """It has been labelled, or its text is not retained any more: nobody else gets it."""
        self._done.add(message_id)
        self._held.pop(message_id, None)

    def skip(self, labeller: str, message_id: str) -> None:
        """This labeller does not want it; others may get it."""
        self._skipped[labeller].add(message_id)
        self._held.pop(message_id, None)

    def _audited(self, labeller: str, recent: Recent, now_s: float) -> Iterator[Item]:
        for one in self._audit:
            if self._is_free(one.id, labeller, now_s) and not self._is_done(one.id, one.classes, recent):
                yield Item(one.id, Origin.AUDIT, one.classes, one.source)

    def _other(self, labeller: str, recent: Recent, now_s: float) -> Item | None:
        free = [
            seen
            for seen in recent.results.values()
            if self._is_free(seen.id, labeller, now_s) and not self._is_done(seen.id, seen.classes, recent)
        ]
        if not free:
            return None
        origin = Origin.UNCERTAIN if self._is_uncertain_next else Origin.RANDOM
        self._is_uncertain_next = not self._is_uncertain_next
        seen = min(free, key=_sureness) if origin is Origin.UNCERTAIN else self._dice.choice(free)
        return Item(seen.id, origin, seen.classes, seen.source)

    def _is_free(self, message_id: str, labeller: str, now_s: float) -> bool:
        holder, until_s = self._held.get(message_id, (labeller, now_s))
        return (holder == labeller or until_s <= now_s) and message_id not in self._skipped[labeller]

    def _is_done(self, message_id: str, classes: tuple[str, ...], recent: Recent) -> bool:
        return message_id in self._done or recent.is_labelled(message_id, classes)


def _sureness(seen: Seen) -> float:
    return seen.score
