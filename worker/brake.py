"""Stops a worker whose model fails on too many texts: then no text can be blamed for it."""

from collections import deque
from collections.abc import Iterable


class Brake:
    """The share of failures among the last `window` texts that the model was given, or so. Pure.

    Whole transactions enter and leave. What is refused before the model sees it does not count: strangers write that.
    """

    def __init__(self, max_share: float, window: int) -> None:
        self._max_share, self._window = max_share, window
        self._transactions: deque[tuple[int, int]] = deque()
        self._texts = self._failed = 0

    def add(self, failed: Iterable[bool]) -> float | None:
        """Enter a transaction, one flag a text; returns the share if it is of enough texts, and too large."""
        flags = list(failed)
        if not flags:
            return None
        self._transactions.append((len(flags), sum(flags)))
        self._texts += len(flags)
        self._failed += sum(flags)
        while self._texts - self._transactions[0][0] >= self._window:
            texts, gone = self._transactions.popleft()
            self._texts -= texts
            self._failed -= gone
        share = self._failed / self._texts
        return share if self._texts >= self._window and share > self._max_share else None
