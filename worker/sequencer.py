"""Puts one partition's outcomes back into offset order. Pure and synchronous."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Sequencer(Generic[T]):
    """Outcomes come in any order; only the contiguous finished run at the head leaves.

    Works on the offsets that were really fetched: compaction and transaction markers leave gaps between them.
    """

    def __init__(self) -> None:
        self._expected: deque[int] = deque()
        self._finished: dict[int, T] = {}

    def __len__(self) -> int:
        """Records between fetch and `take`."""
        return len(self._expected)

    def expect(self, offset: int) -> None:
        """A record was fetched. Raises ValueError if it does not follow those before."""
        if self._expected and offset <= self._expected[-1]:
            raise ValueError(f"offset {offset} after {self._expected[-1]}")
        self._expected.append(offset)

    def finish(self, offset: int, outcome: T) -> None:
        """The outcome of an expected record is known."""
        self._finished[offset] = outcome

    def head_is_finished(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._expected) and self._expected[0] in self._finished

    def finished(self) -> int:
        """Records whose outcome is known, those behind a gap included."""
        return len(self._finished)

    def take(self) -> list[T]:
        """Remove and return the contiguous finished run at the head, in offset order."""
        run = []
        while self.head_is_finished():
            run.append(self._finished.pop(self._expected.popleft()))
        return run
