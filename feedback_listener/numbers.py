"""The numbers of one moment, in memory: what scrapes read, in another thread than the one that changes them."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from feedback_listener.join import WINDOWS, Age, Changes, Kind, Starts, Stream
from feedback_listener.tally import Tally
from feedback_listener.wire import Refusal

Series = tuple[str, int]
"""Model and results partition."""
Positions = dict[tuple[Stream, int], int]
"""Next offset by stream and partition: all before it has been applied."""


class Snapshot(NamedTuple):
    """The whole retention in two numbers, for a terminal."""

    judged: int
    correct: int


class Beside:
    """What is counted beside the predictions: labels, those with a prediction, and records that cannot be read."""

    def __init__(self) -> None:
        self.labels: Counter[Age] = Counter()
        self.matched: Counter[tuple[int, Age]] = Counter()
        """By results partition and age of the label."""
        self.refused: Counter[tuple[Stream, int, Refusal]] = Counter()
        """By stream, partition and reason."""

    def add(
        self,
        starts: Starts,
        labels: Mapping[int, int],
        matches: Mapping[tuple[int, int, int], int],
        refusals: Mapping[tuple[Stream, int, int, Refusal], int],
    ) -> None:
        """Count what is young enough of labels by hour, matches as `Changes` has them, refusals as `Batch` does."""
        for hour, n in labels.items():
            if age := starts.age(hour):
                self.labels[age] += n
        for (hour, partition, prediction_hour), n in matches.items():
            if prediction_hour >= starts.matching_hour and (age := starts.age(hour)):
                self.matched[partition, age] += n
        for (stream, partition, minute, reason), n in refusals.items():
            if minute >= starts.retained:
                self.refused[stream, partition, reason] += n


class Numbers:
    """Sums over the retained predictions by window and series. Hold `lock` while reading or changing them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now_ms = 0
        self.positions: Positions = {}
        self.kinds: list[Kind] = []
        self.windows: list[dict[Series, Tally]] = [{} for _ in WINDOWS]
        self.beside = Beside()

    def merge(self, window: int, series: Series, tally: Tally, sign: int = 1) -> None:
        """Add to a window's sums, or with sign -1 subtract; a series without predictions vanishes."""
        sums = self.windows[window].setdefault(series, Tally())
        sums.merge(tally, sign)
        if not sums:
            del self.windows[window][series]

    def add(self, starts: Starts, changes: Changes) -> None:
        """Count changes in the windows that their minutes lie in."""
        for (minute, model, partition), tally in changes.tallies.items():
            for window, start in enumerate(starts.windows):
                if minute >= start:
                    self.merge(window, (model, partition), tally)

    def snapshot(self) -> Snapshot:
        with self.lock:
            cells = [cell for tally in self.windows[-1].values() for cell in tally.cells.items()]
        judged = sum(what[0] for _cell, what in cells)
        correct = sum(what[0] for (expected, predicted, _bin), what in cells if expected == predicted)
        return Snapshot(judged, correct)
