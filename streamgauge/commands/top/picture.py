"""What is known of a stack, and the picture of it at one moment. Pure: nothing here waits.

What was not told is None or absent, and never 0.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from feedback_listener.reconcile import Scraped
from streamgauge.commands.top.accuracy import Accuracy, accuracies, unread
from streamgauge.commands.top.flow import COLUMN_S, KEPT_S, Flow, Samples
from streamgauge.commands.top.replicas import GroupShown, ListenerRow, WorkerRow, listener_rows, worker_rows
from streamgauge.commands.top.scraped import WorkerShown

COLUMNS = KEPT_S // COLUMN_S

Part = Literal["events", "group", "said"]
PARTS: Mapping[Part, str] = {"events": "metric events", "group": "the workers' group", "said": "texts"}
"""What Kafka is asked for, in words."""


class Said(NamedTuple):
    """A result, and the text that it is of; None when that is not retained any more."""

    text: str | None
    label: str
    score: float
    """The probability of `label`, 0 to 1."""


class Lag(NamedTuple):
    """Of the workers' group."""

    records: int | None
    """Of the partitions of which it is known; None: of none."""
    unknown: Collection[int]
    """The other partitions of the input."""
    oldest_s: float | None
    """The age of the oldest record that a worker holds, as far as workers tell."""


class Picture(NamedTuple):
    """All that is shown."""

    records_per_s: float | None
    p50_s: float | None
    p99_s: float | None
    dead_letters: int | None
    """Of the last KEPT_S seconds."""
    rates: list[float | None]
    """A second; as columns of a spark line, the oldest first, as the next two."""
    p99s_s: list[float | None]
    lags: list[float | None]
    lag: Lag
    accuracies: list[Accuracy]
    workers: list[WorkerRow]
    listeners: list[ListenerRow]
    said: list[Said] | None
    """The last results, the newest last; None: nobody asked for texts."""
    problems: list[str]
    """What could not be asked, and why; a line each."""
    counts: Mapping[str, int]
    """What whoever shows this knows besides."""


@dataclass
class Known:
    """What has been told up to now. Whoever asks changes it; an answer that is too old is taken out again."""

    results: str
    """The results topic."""
    events: Flow | None = None
    """By the metrics topic."""
    between_looks: Flow | None = None
    """By what workers at their URLs have counted."""
    group: GroupShown | None = None
    workers: dict[str, WorkerShown] = field(default_factory=dict)
    """By URL, as the listeners."""
    listeners: dict[str, Scraped] = field(default_factory=dict)
    said: list[Said] | None = None
    problems: dict[str, str] = field(default_factory=dict)
    """By what was asked."""
    lags: Samples = field(default_factory=Samples)

    def is_told(self, part: Part) -> None:
        """It is known again, if it was not."""
        self.problems.pop(PARTS[part], None)

    def is_lost(self, part: Part, why: str) -> None:
        """It is not known any more. Texts stay: they were the last ones then, and still are as far as is known."""
        self.problems[PARTS[part]] = why
        if part == "events":
            self.events = None
        elif part == "group":
            self.group = None

    @property
    def partitions(self) -> int | None:
        """Of the input topic, and of each output."""
        told = [worker.partitions for worker in self.workers.values() if worker.partitions]
        return max([*told, len(self.group.lag) if self.group else 0], default=0) or None

    def lag(self) -> Lag:
        """By the worker that owns a partition; of others by the group's offsets, where brokers tell them."""
        found: dict[int, int] = {}
        own = [worker for worker in self.workers.values() if self._is_ours(worker)]
        for worker in own:
            for partition, records in worker.lag.items():
                found[partition] = max(records, found.get(partition, 0))
        for partition, told in (self.group.lag if self.group else {}).items():
            if told is not None:
                found.setdefault(partition, told)
        unknown = sorted(set(range(self.partitions or 0)) - found.keys())
        oldest = [worker.oldest_s for worker in own if worker.oldest_s is not None]
        return Lag(sum(found.values()) if found else None, unknown, max(oldest, default=None))

    def _is_ours(self, worker: WorkerShown) -> bool:
        return self.group is None or any(member.client_id == worker.name for member in self.group.members)

    def sample(self, now_s: float) -> None:
        """Remember what history is made of, and forget what is old."""
        lag = self.lag()
        if lag.records is not None and not lag.unknown:
            self.lags.add(now_s, lag.records)
        for flow in (self.events, self.between_looks):
            if flow:
                flow.forget(now_s)

    def picture(self, now_s: float, counts: Mapping[str, int]) -> Picture:
        """Of this moment, on the clock of the flows."""
        flow = self.events or self.between_looks
        window = flow.window(now_s) if flow else None
        columns = flow.columns(now_s, COLUMNS) if flow else []
        return Picture(
            records_per_s=flow.records_per_s(now_s) if flow else None,
            p50_s=window.latency_s(0.5) if window else None,
            p99_s=window.latency_s(0.99) if window else None,
            dead_letters=flow.dead_letters if flow else None,
            rates=[column.records / COLUMN_S if column else None for column in columns],
            p99s_s=[column.latency_s(0.99) if column else None for column in columns],
            lags=self.lags.columns(now_s, COLUMNS),
            lag=self.lag(),
            accuracies=accuracies(self.listeners.values()),
            workers=worker_rows(self.workers.values(), self.group, flow, now_s),
            listeners=listener_rows(self.listeners, self.results),
            said=self.said,
            problems=self._problem_lines(),
            counts=counts,
        )

    def _problem_lines(self) -> list[str]:
        """One a reason: when the brokers are away, all that they are asked fails alike."""
        asked: dict[str, list[str]] = {}
        for what, why in sorted(self.problems.items()):
            asked.setdefault(why, []).append(what)
        lines = [f"{', '.join(whats)}: {why}" for why, whats in asked.items()]
        if self.events is None and self.between_looks:
            lines.append("throughput and latency are of the workers that answer at their URLs alone")
        missing = unread(self.listeners.values(), self.results, self.partitions or 0) if self.listeners else ()
        if missing:
            lines.append(f"accuracy is of a part: no listener that answers reads {self.results} {numbers(missing)}")
        return lines


def numbers(partitions: Collection[int]) -> str:
    """`0-3, 7`: partitions, ascending."""
    ranges: list[list[int]] = []
    for partition in partitions:
        if ranges and ranges[-1][1] == partition - 1:
            ranges[-1][1] = partition
        else:
            ranges.append([partition, partition])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
