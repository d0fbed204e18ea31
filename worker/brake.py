"""Stops a worker that would turn a stream into dead letters: something is wrong that no record can be blamed for."""

from collections import deque
from collections.abc import Iterable


class Brake:
    """The share of dead letters among the last `window` records, or so: whole transactions enter and leave. Pure."""

    def __init__(self, max_share: float, window: int) -> None:
        self._max_share, self._window = max_share, window
        self._transactions: deque[tuple[int, int]] = deque()
        self._records = self._refused = 0

    def add(self, refused: Iterable[bool]) -> float | None:
        """Enter a transaction, one flag a record; returns the share if it is of enough records, and too large."""
        flags = list(refused)
        self._transactions.append((len(flags), sum(flags)))
        self._records += len(flags)
        self._refused += sum(flags)
        while self._records - self._transactions[0][0] >= self._window:
            records, gone = self._transactions.popleft()
            self._records -= records
            self._refused -= gone
        share = self._refused / self._records
        return share if self._records >= self._window and share > self._max_share else None
