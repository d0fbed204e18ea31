"""What `recount.py` counts, and what it counts it as."""

from collections import defaultdict
from typing import NamedTuple

MINUTE_MS = 60_000
LEAD_MS = 23 * 60 * MINUTE_MS
SPANS_MS = {"5m": 5 * MINUTE_MS, "1h": 60 * MINUTE_MS, "24h": 24 * 60 * MINUTE_MS}

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
"""A name, and its labels in alphabetical order."""
Values = dict[Series, float]


class Predicted(NamedTuple):
    """A record of the results or the audit topic."""

    at_ms: int
    partition: int
    offset: int
    model: str
    label: str
    scores: dict[str, float]
    is_audited: bool = False
    """It is a record of the audit topic."""


class Labelled(NamedTuple):
    """A record of the feedback topic; their order is that in which they judge."""

    at_ms: int
    partition: int
    offset: int
    label: str
    source: str | None


class TopicRecords:
    """What was read; refused records by series name, partition and reason, with their times."""

    def __init__(self) -> None:
        self.predictions: dict[str, list[Predicted]] = defaultdict(list)
        self.labels: dict[str, list[Labelled]] = defaultdict(list)
        self.refused: list[tuple[str, int, str, int]] = []
        self.digests: dict[str, set[str]] = defaultdict(set)
        """Of each model that results are of."""


def series_of(name: str, **labels: str | int) -> Series:
    return name, tuple(sorted((key, str(value)) for key, value in labels.items()))


def minute_start(at_ms: int) -> int:
    return at_ms - at_ms % MINUTE_MS


def windows_of(at_ms: int, now_ms: int, window_ms: int) -> list[str]:
    """Those that hold a prediction of this time."""
    spans = {**SPANS_MS, "all": window_ms}
    return [window for window, span_ms in spans.items() if at_ms >= minute_start(now_ms - min(span_ms, window_ms))]
