"""Sums that can be added, retracted and compared exactly.

All are integers. Probabilities are fixed point with PROBABILITY_UNITS to one, delays with DELAY_UNITS to a
second: integers do not care about the order in which they are summed, and a retraction leaves no residue. Both
units are powers of two, so that the exported floats are exact, and Prometheus adds partitions exactly.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

MINUTE_MS = 60_000
PROBABILITY_UNITS = 2**20
DELAY_UNITS = 2**10
BINS = 10
"""Confidence bins of equal width: i/BINS stands in bin i, and 1 in the last."""
DELAY_EDGES_S = (60, 300, 900, 3600, 21_600, 86_400, 259_200, 604_800)
"""Of the histogram of labels' delays; what is more than the last is counted after it."""
AUDIT = -1
"""In place of a partition: all predictions of the audit topic."""


class CountKey(NamedTuple):
    """What predictions that are counted together have in common, besides their time.

    Its fields are columns of the store's tables and labels of the exported series. `join.py` makes the keys.
    """

    model: str
    partition: int
    """Of the results topic, or AUDIT."""


Cell = tuple[str, str, int]
"""The class that was expected, the class that was predicted, the bin of the confidence."""
Amounts = tuple[int, int, int, int]
"""Judged predictions, their confidences, their Brier scores, the delays of their labels."""
NOTHING: Amounts = (0, 0, 0, 0)


class LabelOutcome(StrEnum):
    """What became of a label of a prediction, unless it is the first or only one of the prediction's classes."""

    DUPLICATE = "duplicate"
    CORRECTION = "correction"
    CONFLICT = "conflict"
    UNKNOWN_CLASS = "unknown_class"


def delay_bucket(delay_ms: int) -> int:
    """The number of the first of DELAY_EDGES_S that is not less, or how many there are."""
    return bisect_left(DELAY_EDGES_S, max(0, delay_ms) / 1000)


def confidence_bin(confidence: float) -> int:
    return min(int(confidence * BINS), BINS - 1)


def amounts(units: Sequence[int], predicted: int, expected: int, delay_ms: int) -> Amounts:
    """What one judged prediction adds; `units` are its scores in PROBABILITY_UNITS, class by class.

    Its Brier score is the sum over the classes of (score - truth)^2, where truth is 1 for the expected class and
    0 for the others: 0 is best, 2 is worst. The delay is 0 for a label that came before its prediction.
    """
    squared = sum(unit * unit for unit in units) - 2 * units[expected] * PROBABILITY_UNITS + PROBABILITY_UNITS**2
    brier = (squared + PROBABILITY_UNITS // 2) // PROBABILITY_UNITS
    return 1, units[predicted], brier, max(0, delay_ms) * DELAY_UNITS // 1000


class Tally:
    """The sums over some predictions of one CountKey, or a change of such sums."""

    __slots__ = ("cells", "delays", "labels", "scored")

    def __init__(self) -> None:
        self.scored: dict[int, tuple[int, int]] = {}
        """By bin: how many predictions, and the sum of their confidences. No bin has none."""
        self.delays: Counter[int] = Counter()
        """Judged predictions by `delay_bucket`."""
        self.labels: Counter[LabelOutcome] = Counter()
        self.cells: dict[Cell, Amounts] = {}
        """No cell is all zeros."""

    def __bool__(self) -> bool:
        return bool(self.scored or self.cells or any(self.labels.values()) or any(self.delays.values()))

    @property
    def predictions(self) -> int:
        return sum(n for n, _confidence in self.scored.values())

    def score(self, number: int, predictions: int, confidence: int) -> None:
        """Count predictions of a bin, or retract them: both are negative then."""
        before = self.scored.get(number, (0, 0))
        total = before[0] + predictions, before[1] + confidence
        if any(total):
            self.scored[number] = total
        else:
            self.scored.pop(number, None)

    def add(self, cell: Cell, what: Amounts, sign: int = 1) -> None:
        """Count `what`, or with sign -1 retract it."""
        n, confidence, brier, delay = self.cells.get(cell, NOTHING)
        total = (n + sign * what[0], confidence + sign * what[1], brier + sign * what[2], delay + sign * what[3])
        if any(total):
            self.cells[cell] = total
        else:
            self.cells.pop(cell, None)

    def merge(self, other: "Tally", sign: int = 1) -> None:
        """Count all of another tally, or with sign -1 retract it."""
        for number, (n, confidence) in other.scored.items():
            self.score(number, sign * n, sign * confidence)
        for bucket, n in other.delays.items():
            self.delays[bucket] += sign * n
        for outcome, n in other.labels.items():
            self.labels[outcome] += sign * n
        for cell, what in other.cells.items():
            self.add(cell, what, sign)
