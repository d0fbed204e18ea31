"""Sums that can be added, retracted and compared exactly: per minute, and kept up to date per window.

All are integers. Probabilities are fixed point with PROBABILITY_UNITS to one, delays with DELAY_UNITS to a
second: integers do not care about the order in which they are summed, and a retraction leaves no residue. Both
units are powers of two, so that the exported floats are exact, and Prometheus adds partitions exactly.
"""

from collections.abc import Sequence

MINUTE_MS = 60_000
PROBABILITY_UNITS = 2**20
DELAY_UNITS = 2**10
BINS = 10
"""Confidence bins of equal width: i/BINS stands in bin i, and 1 in the last."""

Cell = tuple[str, str, int]
"""The class that was expected, the class that was predicted, the bin of the confidence."""
Amounts = tuple[int, int, int, int]
"""Judged predictions, their confidences, their Brier scores, the delays of their labels."""


def confidence_bin(confidence: float) -> int:
    return min(int(confidence * BINS), BINS - 1)


def amounts(confidence: float, scores: Sequence[float], expected: int, delay_ms: int) -> Amounts:
    """What one judged prediction adds.

    Its Brier score is the sum over the classes of (score - truth)^2, where truth is 1 for the expected class and
    0 for the others: 0 is best, 2 is worst. The delay is 0 for a label that came before its prediction.
    """
    brier = sum(score * score for score in scores) - 2 * scores[expected] + 1
    return (
        1,
        round(confidence * PROBABILITY_UNITS),
        round(brier * PROBABILITY_UNITS),
        max(0, delay_ms) * DELAY_UNITS // 1000,
    )


class Tally:
    """The sums over some predictions of one model and one results partition."""

    __slots__ = ("cells", "predictions", "unknown_class")

    def __init__(self) -> None:
        self.predictions = 0
        self.unknown_class = 0
        self.cells: dict[Cell, Amounts] = {}
        """Only cells with judged predictions."""

    def add(self, cell: Cell, what: Amounts, sign: int = 1) -> None:
        """Count `what`, or with sign -1 retract it."""
        n, confidence, brier, delay = self.cells.get(cell, (0, 0, 0, 0))
        n += sign * what[0]
        if n:
            self.cells[cell] = (n, confidence + sign * what[1], brier + sign * what[2], delay + sign * what[3])
        else:
            del self.cells[cell]

    def subtract(self, other: "Tally") -> None:
        """Retract all of another tally that was counted here."""
        self.predictions -= other.predictions
        self.unknown_class -= other.unknown_class
        for cell, what in other.cells.items():
            self.add(cell, what, -1)


class Series:
    """One model and one results partition: a tally per minute of the broker's time, and their sum per window."""

    __slots__ = ("_minutes", "_starts", "classes", "windows")

    def __init__(self, starts: list[int]) -> None:
        """`starts` holds the first minute of each window, the whole retention last; shared by all series."""
        self._starts = starts
        self._minutes: dict[int, Tally] = {}
        self.windows = [Tally() for _ in starts]
        self.classes: set[str] = set()

    def touched_by(self, minute: int) -> list[Tally]:
        """The tallies in which a prediction of this minute counts: its minute's, and those of the windows it is in."""
        tally = self._minutes.get(minute)
        if tally is None:
            tally = self._minutes[minute] = Tally()
        touched = [window for start, window in zip(self._starts, self.windows, strict=True) if minute >= start]
        touched.append(tally)
        return touched

    def leave_behind(self, starts: Sequence[int]) -> None:
        """Subtract from each window the minutes before its new start, and forget those that are in none."""
        for old, new, window in zip(self._starts, starts, self.windows, strict=True):
            for minute in range(old, new):
                if tally := self._minutes.get(minute):
                    window.subtract(tally)
        for minute in range(self._starts[-1], starts[-1]):
            self._minutes.pop(minute, None)
