"""Warnings that may come thousands of times a second, as one line a minute."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from streamgauge.lifecycle import CLOCK

log = structlog.get_logger(__name__)

EVERY_S = 60.0

Kind = tuple[str, tuple[tuple[str, str], ...]]
"""An event, and what tells its kinds apart."""


class Positioned(Protocol):
    """A record, of which only its position is logged."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class MinuteLog:
    """Counts warnings. Each kind is logged at once when it is new, then every EVERY_S. Any thread may warn."""

    def __init__(self, monotonic_s: Callable[[], float] = CLOCK.monotonic_s) -> None:
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._untold: Counter[Kind] = Counter()
        self._examples: dict[Kind, tuple[int, int]] = {}
        self._told_s: dict[Kind, float] = {}

    def warn(self, event: str, n: int, example: Positioned, **of: str) -> None:
        """Count `n` more of this event; `of` tells its kinds apart, `example` is a record that it is about."""
        kind = event, tuple(of.items())
        with self._lock:
            self._untold[kind] += n
            self._examples[kind] = example.partition, example.offset

    def tell(self) -> None:
        """Log what is due."""
        now_s = self._monotonic_s()
        with self._lock:
            due = [kind for kind in self._untold if now_s - self._told_s.get(kind, now_s - EVERY_S) >= EVERY_S]
            lines = [(kind, self._untold.pop(kind), self._examples.pop(kind)) for kind in due]
            self._told_s.update(dict.fromkeys(due, now_s))
        for (event, of), records, (partition, offset) in lines:
            log.warning(event, records=records, **dict(of), partition=partition, offset=offset)
