"""All numbers of one moment, in memory. The store's thread changes them, scrapes read them in another thread."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from feedback_listener.audit import AuditMinute
from feedback_listener.join import WINDOWS, Age, Changes, Horizons
from feedback_listener.records import Refusal, RefusalKey, Stream
from feedback_listener.tally import AUDIT, CountKey, Tally

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
        self.horizons = Horizons.at(0, 0, 0)
        self.positions: Positions = {}
        self.windows: list[dict[CountKey, Tally]] = [{} for _ in WINDOWS]
        self.audits: dict[str, dict[int, AuditMinute]] = {}
        """By model and minute; no minute has no predictions."""
        self.audit_changes: Counter[str] = Counter()
        """By model: how often a minute that had matured has changed."""
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
        self.add_audits(horizons, changes.audits)

    def add_audits(self, horizons: Horizons, audits: Mapping[tuple[int, str], AuditMinute]) -> None:
        """Count changes by minute and model, and forget minutes that are not retained any more."""
        for (minute, model), sums in audits.items():
            minutes = self.audits.setdefault(model, {})
            minutes[minute] = minutes.get(minute, AuditMinute()) + sums
            self.audit_changes[model] += minute < horizons.matured
            if not any(minutes[minute]):
                del minutes[minute]
        if horizons.retained != self.horizons.retained:
            for minutes in self.audits.values():
                for minute in [minute for minute in minutes if minute < horizons.retained]:
                    del minutes[minute]
        self.audits = {model: minutes for model, minutes in self.audits.items() if minutes}

    def snapshot(self) -> Snapshot:
        with self.lock:
            tallies = [tally for key, tally in self.windows[-1].items() if key.partition != AUDIT]
            cells = [cell for tally in tallies for cell in tally.cells.items()]
        judged = sum(what[0] for _cell, what in cells)
        correct = sum(what[0] for (expected, predicted, _bin), what in cells if expected == predicted)
        return Snapshot(judged, correct)
