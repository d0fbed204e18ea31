"""All numbers of one moment, in memory. The store's thread changes them, scrapes read them in another thread."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from feedback_listener.join import WINDOWS, Age, Changes, Horizons
from feedback_listener.records import Kind, Refusal, RefusalKey, Stream
from feedback_listener.tally import CountKey, Tally

Positions = dict[tuple[Stream, int], int]
"""Next offset by stream and partition: all before it has been applied."""


class Snapshot(NamedTuple):
    """The whole retention in two numbers, for a terminal."""

    judged: int
    correct: int


class LabelsAndRefusals:
    """Counts of labels, of labels with a prediction, and of refused records, of one moment."""

    def __init__(self) -> None:
        self.labels: Counter[Age] = Counter()
        self.matched: Counter[tuple[int, Age]] = Counter()
        """By results partition and age of the label."""
        self.refused: Counter[tuple[Stream, int, Refusal]] = Counter()
        """By stream, partition and reason."""

    def add(
        self,
        horizons: Horizons,
        labels: Mapping[int, int],
        matches: Mapping[tuple[int, int, int], int],
        refusals: Mapping[RefusalKey, int],
    ) -> None:
        """Count what is young enough of these, keyed as `Changes` has them."""
        for hour, n in labels.items():
            if age := horizons.age(hour):
                self.labels[age] += n
        for (hour, partition, prediction_hour), n in matches.items():
            if prediction_hour >= horizons.matching_hour and (age := horizons.age(hour)):
                self.matched[partition, age] += n
        for (stream, partition, minute, reason), n in refusals.items():
            if minute >= horizons.retained:
                self.refused[stream, partition, reason] += n


class Totals:
    """Sums over the retained predictions by window and CountKey. Hold `lock` while reading or changing them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now_ms = 0
        self.positions: Positions = {}
        self.kinds: list[Kind] = []
        self.windows: list[dict[CountKey, Tally]] = [{} for _ in WINDOWS]
        self.labels_and_refusals = LabelsAndRefusals()

    def merge(self, window: int, key: CountKey, tally: Tally, sign: int = 1) -> None:
        """Add to a window's sums, or with sign -1 subtract; a key without predictions vanishes."""
        sums = self.windows[window].setdefault(key, Tally())
        sums.merge(tally, sign)
        if not sums:
            del self.windows[window][key]

    def add(self, horizons: Horizons, changes: Changes) -> None:
        """Count changes in the windows that their minutes lie in."""
        for (minute, key), tally in changes.tallies.items():
            for window, start in enumerate(horizons.windows):
                if minute >= start:
                    self.merge(window, key, tally)

    def snapshot(self) -> Snapshot:
        with self.lock:
            cells = [cell for tally in self.windows[-1].values() for cell in tally.cells.items()]
        judged = sum(what[0] for _cell, what in cells)
        correct = sum(what[0] for (expected, predicted, _bin), what in cells if expected == predicted)
        return Snapshot(judged, correct)
