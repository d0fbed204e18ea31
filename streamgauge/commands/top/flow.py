"""How much flows and how fast, second by second. Pure: what was committed goes in, with the time at which it was.

Times are seconds of any one clock that does not go back.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamgauge.commands.stats import latencies_of, quantile
from streamgauge.events import TransactionMeasured

WINDOW_S = 10
"""Rates and latencies are those of the last so many seconds that are over."""
KEPT_S = 420
COLUMN_S = 2
"""What a column of a spark line covers: less, and it would show how the seconds of two clocks beat."""
MAX_WORKERS = 500
OTHERS = "(others)"


class Committed(NamedTuple):
    """What a worker has committed."""

    records: int
    dead_letters: int
    latencies: Mapping[float, int]
    """Records by the edge at or below which their latency lies, in seconds; the last edge is infinite."""
    max_s: float
    """No latency is greater."""


def committed_of(event: TransactionMeasured) -> Committed:
    """What a metric event tells. Raises ValueError when it has not a count for each edge."""
    return Committed(event.records, sum(event.dead_letters.values()), latencies_of(event), event.latency.max)


@dataclass
class Sums:
    """Of some time together."""

    records: int = 0
    dead_letters: int = 0
    latencies: Counter[float] = field(default_factory=Counter)
    max_s: float = 0

    def add(self, more: "Committed | Sums") -> None:
        self.records += more.records
        self.dead_letters += more.dead_letters
        self.latencies.update(more.latencies)
        self.max_s = max(self.max_s, more.max_s)

    def latency_s(self, q: float) -> float | None:
        """The quantile `q`, 0 to 1, as Prometheus estimates it; None when nothing was committed."""
        return quantile(self.latencies, q, self.max_s)


class Flow:
    """What the workers have committed in the last KEPT_S seconds. `began_s`: before it nothing is known."""

    def __init__(self, began_s: float = -math.inf) -> None:
        self._began_s = began_s
        self._seconds: dict[str, dict[int, Sums]] = {}
        """By worker."""

    @property
    def last_s(self) -> dict[str, int]:
        """The second in which each worker last committed something, as far as is kept."""
        return {worker: max(seconds) for worker, seconds in self._seconds.items()}

    def add(self, worker: str, at_s: float, committed: Committed) -> None:
        """Anybody may write metric events, under any names: after MAX_WORKERS of them the rest are OTHERS together."""
        if worker not in self._seconds and len(self._seconds) >= MAX_WORKERS:
            worker = OTHERS
        self._seconds.setdefault(worker, {}).setdefault(math.floor(at_s), Sums()).add(committed)

    def forget(self, now_s: float) -> None:
        """What is older than KEPT_S; and a worker of which nothing else is known."""
        kept = {
            worker: {second: sums for second, sums in seconds.items() if second >= now_s - KEPT_S}
            for worker, seconds in self._seconds.items()
        }
        self._seconds = {worker: seconds for worker, seconds in kept.items() if seconds}

    def window(self, now_s: float, worker: str | None = None) -> Sums:
        """The WINDOW_S before this second, of one worker or of all together."""
        end = math.floor(now_s)
        return self._between(end - WINDOW_S, end, worker)

    def records_per_s(self, now_s: float, worker: str | None = None) -> float | None:
        """In that window, as far as it is known; None when it is not."""
        known_s = min(WINDOW_S, math.floor(now_s) - self._began_s)
        return self.window(now_s, worker).records / known_s if known_s >= 1 else None

    def columns(self, now_s: float, count: int, worker: str | None = None) -> list[Sums | None]:
        """So many columns before this one, the oldest first; None where nothing is known."""
        end = column_of(now_s)
        return [
            self._between(column * COLUMN_S, (column + 1) * COLUMN_S, worker)
            if (column + 1) * COLUMN_S > max(self._began_s, now_s - KEPT_S)
            else None
            for column in range(end - count, end)
        ]

    @property
    def dead_letters(self) -> int:
        """Of all that is kept."""
        return sum(sums.dead_letters for seconds in self._seconds.values() for sums in seconds.values())

    def _between(self, begin: int, end: int, worker: str | None) -> Sums:
        total = Sums()
        of: Iterable[dict[int, Sums]] = self._seconds.values() if worker is None else [self._seconds.get(worker, {})]
        for seconds in of:
            for second in range(begin, end):
                if second in seconds:
                    total.add(seconds[second])
        return total


class Samples:
    """A number that is asked for now and then, by the column of its time."""

    def __init__(self) -> None:
        self._columns: dict[int, float] = {}

    def add(self, at_s: float, value: float) -> None:
        self._columns[column_of(at_s)] = value
        self._columns.pop(column_of(at_s - KEPT_S), None)

    def columns(self, now_s: float, count: int) -> list[float | None]:
        """As those of `Flow`."""
        end = column_of(now_s)
        return [self._columns.get(column) for column in range(end - count, end)]


def column_of(at_s: float) -> int:
    """The number of the column that a time is in."""
    return math.floor(at_s) // COLUMN_S
