"""Puts one partition's outcomes back into offset order. Pure and synchronous."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Sequencer(Generic[T]):
    """Outcomes come in any order; only what is finished without a gap at the head leaves.

    It works on the offsets that were really fetched: compaction and transaction markers leave gaps between them.
    """

    def __init__(self) -> None:
        self._expected: deque[int] = deque()
        self._finished: dict[int, T] = {}
        """Outcomes behind a gap."""
        self._ready: list[T] = []
        """Finished without a gap, from the head on."""

    def expect(self, offset: int) -> None:
        """A record was fetched. Raises ValueError if it does not follow those before."""
        if self._expected and offset <= self._expected[-1]:
            raise ValueError(f"offset {offset} after {self._expected[-1]}")
        self._expected.append(offset)

    def finish(self, offset: int, outcome: T) -> None:
        """The outcome of an expected record is known."""
        self._finished[offset] = outcome
        while self._expected and self._expected[0] in self._finished:
            self._ready.append(self._finished.pop(self._expected.popleft()))

    def ready(self) -> int:
        """How many outcomes `take` would return."""
        return len(self._ready)

    def take(self) -> list[T]:
        """Remove and return what is finished without a gap at the head, in offset order."""
        ready, self._ready = self._ready, []
        return ready
