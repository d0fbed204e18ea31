"""Texts waiting for the model, and how a batch is cut from them: the oldest first, then what pads it least."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

MAX_PADDING_TOKENS = 16
"""More padding than this, by one text, costs more than an inference for it alone would."""


class Waiting(Protocol):
    """What the backlog needs to know of a text: how many tokens it has."""

    @property
    def tokens(self) -> int: ...


T = TypeVar("T", bound=Waiting)


def batch_window(lengths: Sequence[tuple[int, int]], start: int, max_batch_tokens: int) -> range:
    """The indices of the batch around `start` in `lengths`, which is ascending by its first items, the token counts.

    Grows by the neighbour that adds less padding, while that is worth it and longest x count stays within
    `max_batch_tokens`. A text that alone is over the budget is a batch of its own.
    """
    low, high = start, start + 1
    while True:
        count, longest = high - low, lengths[high - 1][0]
        below = above = MAX_PADDING_TOKENS + 1
        if low > 0 and longest * (count + 1) <= max_batch_tokens:
            below = longest - lengths[low - 1][0]
        if high < len(lengths) and lengths[high][0] * (count + 1) <= max_batch_tokens:
            above = (lengths[high][0] - longest) * count
        if min(below, above) > MAX_PADDING_TOKENS:
            return range(low, high)
        if below < above:
            low -= 1
        else:
            high += 1


class Backlog(Generic[T]):
    """Bounded by the credit of what feeds it. `cut` waits for a text, and ends the stream once closed and empty."""

    def __init__(self, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._waiting: dict[int, T] = {}
        """By arrival, oldest first."""
        self._by_length: list[tuple[int, int]] = []
        """(tokens, arrival), ascending."""
        self._arrivals = 0
        self._closed = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, texts: Iterable[T]) -> None:
        """Add texts, in order of arrival."""
        for text in texts:
            self._waiting[self._arrivals] = text
            insort(self._by_length, (text.tokens, self._arrivals))
            self._arrivals += 1
        self._changed.set()

    def close(self) -> None:
        """Nothing more will be put: `cut` hands out what is left, then None."""
        self._closed = True
        self._changed.set()

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Drop what nobody wants any more."""
        self._waiting = {arrival: text for arrival, text in self._waiting.items() if not unwanted(text)}
        self._by_length = [entry for entry in self._by_length if entry[1] in self._waiting]

    async def cut(self) -> list[T] | None:
        """The next batch, shortest text first; None when closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._cut()

    def _cut(self) -> list[T]:
        oldest = next(iter(self._waiting))
        start = bisect_left(self._by_length, (self._waiting[oldest].tokens, oldest))
        window = batch_window(self._by_length, start, self._max_batch_tokens)
        chosen = self._by_length[window.start : window.stop]
        del self._by_length[window.start : window.stop]
        return [self._waiting.pop(arrival) for _tokens, arrival in chosen]
