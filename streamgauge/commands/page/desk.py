"""Where the page's sessions, each in a thread of its own, ask the room, which is on the event loop."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from streamgauge.commands.page.choosing import Item, Origin
from streamgauge.commands.page.room import Answer, Room, Watched
from streamgauge.errors import StreamgaugeError
from streamgauge.events import Feedback, Position

T = TypeVar("T")

CALL_S = 20.0
"""Longer than anything here takes while Kafka answers."""


class Desk:
    """May be called from any thread but the loop's. Each call raises StreamgaugeError when it takes CALL_S."""

    def __init__(self, room: Room, loop: asyncio.AbstractEventLoop) -> None:
        self._room, self._loop = room, loop

    @property
    def has_prometheus(self) -> bool:
        """Whether charts are from there, and go back further."""
        return self._room.has_prometheus

    def trouble(self) -> str | None:
        """Why nothing moves; None when all is well."""
        return self._call(self._room.trouble())

    def send_text(self, message_id: str, text: str) -> None:
        """Once, however often it is called with this id."""
        self._call(self._room.send_text(message_id, text))

    def answer(self, message_id: str, wait_s: float) -> Answer:
        return self._call(self._room.answer(message_id, wait_s))

    def text(self, source: Position) -> str | None:
        """None when it is not retained any more, or cannot be read just now."""
        return self._call(self._room.text(source))

    def label(self, key: str, message_id: str, label: str, origin: Origin, wait_s: float = 3.0) -> bool:
        """Once, however often it is called with this key; whether Kafka has it after `wait_s`."""
        feedback = Feedback(id=message_id, label=label, source=origin)
        return self._call(self._room.label(key, feedback, wait_s))

    def next_item(self, labeller: str) -> tuple[Item, str] | None:
        return self._call(self._room.next_item(labeller))

    def skip(self, labeller: str, message_id: str) -> None:
        self._call(self._room.skip(labeller, message_id))

    def audit_left(self) -> int:
        return self._call(self._room.audit_left())

    def watch(self, window: str, span_s: float, judgements: int) -> Watched:
        return self._call(self._room.watch(window, span_s, judgements))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(CALL_S)
        except TimeoutError:
            asked.cancel()
            raise StreamgaugeError("Kafka does not answer") from None
        except CancelledError:
            raise StreamgaugeError("the page is ending") from None


_open: list[Desk] = []


def open_desk(desk: Desk) -> None:
    """Make it the one that sessions find: Streamlit runs a script, to which nothing can be handed."""
    _open[:] = [desk]


def the_desk() -> Desk:
    """Of this process."""
    [desk] = _open
    return desk
