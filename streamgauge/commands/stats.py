"""Throughput and latency of the past, from the metrics topic alone: what `streamgauge stats` shows."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from rich.console import Console
from rich.table import Table

from streamgauge.commands.reading import reader
from streamgauge.events import NO_EVENT, Covered, TransactionMeasured, decode_measurement
from streamgauge.kafka import answered
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import cell
from streamgauge.topic_reading import polls_up_to

By = Literal["time", "worker", "partition", "model"]
PIPE_CHARS = 160
COLUMNS = {
    "records": "records",
    "records_per_s": "/s",
    "dead_letters": "dead",
    "p50_s": "p50 s",
    "p95_s": "p95 s",
    "p99_s": "p99 s",
    "tokenize_ms": "token ms",
    "queue_ms": "queue ms",
    "infer_ms": "infer ms",
    "padding": "pad",
}
"""What the table has room for; JSON has more."""


@dataclass
class Sums:
    """What some transactions covered together; times are seconds since the epoch."""

    transactions: int = 0
    records: int = 0
    scored: int = 0
    dead_letters: int = 0
    tokens: int = 0
    padded_tokens: float = 0.0
    tokenize_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    max_s: float = 0.0
    first_s: float = math.inf
    last_s: float = -math.inf
    latencies: Counter[float] = field(default_factory=Counter)
    """How many records lie at or below an edge, and above the edge before; the last edge is infinite."""

    def add(self, covered: Covered, latencies: Mapping[float, int], began_s: float) -> None:
        """Count one more transaction, or a model's part of one, which began at `began_s`."""
        self.transactions += 1
        self.records += covered.records
        self.scored += sum(covered.labels.values())
        self.dead_letters += sum(covered.dead_letters.values())
        self.tokens += covered.tokens
        self.padded_tokens += covered.padded_tokens
        self.tokenize_s += covered.tokenize_s
        self.queue_s += covered.queue_s
        self.infer_s += covered.infer_s
        self.max_s = max(self.max_s, covered.latency.max)
        self.first_s, self.last_s = min(self.first_s, began_s), max(self.last_s, began_s)
        self.latencies.update(latencies)

    def row(self, span_s: float) -> dict[str, float | None]:
        """The columns, from what is summed up over `span_s` seconds; None where there is nothing to divide by."""

        def ratio(total: float, count: float) -> float | None:
            return total / count if count else None

        return {
            "records": self.records,
            "records_per_s": ratio(self.records, span_s),
            "dead_letters": self.dead_letters,
            "p50_s": quantile(self.latencies, 0.5, self.max_s),
            "p95_s": quantile(self.latencies, 0.95, self.max_s),
            "p99_s": quantile(self.latencies, 0.99, self.max_s),
            "max_s": self.max_s,
            "tokenize_ms": ratio(1000 * self.tokenize_s, self.scored),
            "queue_ms": ratio(1000 * self.queue_s, self.scored),
            "infer_ms": ratio(1000 * self.infer_s, self.scored),
            "tokens_per_s": ratio(self.tokens, span_s),
            "padding": ratio(self.padded_tokens - self.tokens, self.padded_tokens),
            "transactions": self.transactions,
        }


def latencies_of(covered: Covered) -> dict[float, int]:
    """Records by the edge at or below which they lie. Raises ValueError when there is not a count for each edge."""
    return dict(zip((*covered.latency.edges, math.inf), covered.latency.counts, strict=True))


def quantile(buckets: Mapping[float, int], q: float, largest: float) -> float | None:
    """As Prometheus estimates it, linear within a bucket; but never beyond the largest value, which is known here."""
    rank = q * sum(buckets.values())
    if not rank:
        return None
    below, lower = 0, 0.0
    for edge in sorted(buckets):
        if below + buckets[edge] >= rank:
            upper = min(edge, largest)
            return max(0.0, lower + (upper - lower) * (rank - below) / buckets[edge])
        below, lower = below + buckets[edge], edge
    return largest


class Stats:
    """Groups transactions by time (a row each `every_s` seconds), worker, partition or model; and sums up all."""

    def __init__(self, by: By, every_s: float) -> None:
        self._by, self._every_s = by, every_s
        self._groups: dict[str, Sums] = {}
        self._all = Sums()

    def add(self, measured: TransactionMeasured) -> None:
        """Raises ValueError, and changes nothing, when a field is not what we write."""
        began_s = datetime.fromisoformat(measured.began_at).timestamp()
        whole = latencies_of(measured)
        parts = [(key, part, latencies_of(part)) for key, part in self._parts(measured, began_s)]
        self._all.add(measured, whole, began_s)
        for key, part, latencies in parts:
            self._groups.setdefault(key, Sums()).add(part, latencies, began_s)

    def _parts(self, measured: TransactionMeasured, began_s: float) -> list[tuple[str, Covered]]:
        """The rows that a transaction belongs to, and what of it: where several models scored, each has its part."""
        if self._by == "model" and measured.models:
            return [(part.model.key, part) for part in measured.models]
        return [(self._key(measured, began_s), measured)]

    def _key(self, measured: TransactionMeasured, began_s: float) -> str:
        match self._by:
            case "worker":
                return measured.worker
            case "partition":
                return f"{measured.topic}-{measured.partition}"
            case "model":
                return measured.model.key
        bucket_s = began_s // self._every_s * self._every_s
        return datetime.fromtimestamp(bucket_s, UTC).isoformat().replace("+00:00", "Z")

    def rows(self) -> dict[str, dict[str, float | None]]:
        """Rows by their names, in order, the last for all together. Rates are over the time that a row covers."""
        whole_s = max(0.0, self._all.last_s - self._all.first_s)
        rows = {key: self._groups[key].row(self._span_s(key, whole_s)) for key in sorted(self._groups)}
        return rows | {"all": self._all.row(whole_s)} if rows else {}

    def _span_s(self, key: str, whole_s: float) -> float:
        """The part of the row's time between the first and the last transaction of all."""
        if self._by != "time":
            return whole_s
        begins_s = datetime.fromisoformat(key).timestamp()
        return min(begins_s + self._every_s, self._all.last_s) - max(begins_s, self._all.first_s)


async def collect(kafka: KafkaSettings, topics: TopicSettings, since_ms: int, stats: Stats) -> None:
    """Add every metric event since then, up to the end of the topic as it is now."""
    async with reader(kafka, topics.metrics, since_ms) as consumer:
        ends = await answered(kafka, consumer.end_offsets(consumer.assignment()), "ends were asked for")
        async for polled in polls_up_to(consumer, ends, kafka):
            for records in polled.values():
                add_all(stats, (record.value for record in records))


def add_all(stats: Stats, values: Iterable[bytes | None]) -> None:
    """Add what is a metric event; others may write to the topic as well."""
    for value in values:
        try:
            stats.add(decode_measurement(value or b""))
        except (*NO_EVENT, ValueError, OverflowError):
            continue


def show(rows: Mapping[str, Mapping[str, float | None]]) -> None:
    """Print the rows as a table; whole, where there is no terminal to fit it to."""
    caption = (
        "dead: dead letters. p50 to p99: from when the broker took a record to the beginning of its transaction. "
        "token, queue, infer: milliseconds for one text; the time of a batch is divided by its texts. "
        "pad: share of padding in all tokens computed"
    )
    table = Table(caption=caption, box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for name, row in rows.items():
        short = re.sub(r"^\d{4}-(\d\d-\d\d)T(.*)Z$", r"\1 \2", name)  # a terminal has 80 columns
        table.add_row(cell(short), *(_shown(column, row[column]) for column in COLUMNS))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=PIPE_CHARS)).print(table)


def _shown(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    if column == "padding":
        return f"{value:.0%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
