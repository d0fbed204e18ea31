"""A listener without Kafka: the real store and collector, fed by a test."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from feedback_listener.audit import Terms
from feedback_listener.decoding import decode_records
from feedback_listener.metrics import AccuracyCollector
from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import RecordBatch, Stream
from feedback_listener.settings import Shard
from feedback_listener.store import Store, discard
from feedback_listener.totals import Totals
from tests import truth
from tests.truth import BESIDE, HOUR_MS, Labelled, Record, Refused, Scored


@dataclass(frozen=True)
class Wire:
    """A record as the consumer yields it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None


def stream_of(record: Record) -> Stream:
    if isinstance(record, Refused):
        return Stream(record.stream)
    if isinstance(record, Labelled):
        return Stream.FEEDBACK
    return Stream.AUDIT if record.is_audited else Stream.RESULTS


def wire(record: Record) -> Wire:
    at = str(stream_of(record)), record.partition, record.offset, record.at_ms
    match record:
        case Refused(reason="null_value"):
            return Wire(*at, None)
        case Refused(reason="broken_json"):
            return Wire(*at, b"{")
        case Refused():
            return Wire(*at, b"{}")
        case Scored():
            name, version = record.model.split("@")
            model = {"name": name, "version": version}
            value: dict[str, object] = {
                "id": record.id,
                "label": record.label,
                "scores": record.scores,
                "model": model,
            }
        case Labelled():
            value = {"id": record.id, "label": record.label, "source": record.source}
    return Wire(*at, msgspec.json.encode(value))


class Replica:
    """One listener's store in a file, and what it would export."""

    def __init__(self, path: Path, now_ms: int, window_ms: int, store: type[Store] = Store) -> None:
        self._path, self._window_ms, self._kind = path, window_ms, store
        self.caught_up = True
        self.shard = Shard(0, 1)
        self.registry = CollectorRegistry()
        self.registry.register(AccuracyCollector(self))
        self.store = self.open(now_ms)

    @property
    def totals(self) -> Totals:
        return self.store.totals

    @property
    def terms(self) -> Terms:
        return Terms(self._window_ms, HOUR_MS, 0.8, 5.0)

    def ready(self) -> str | None:
        return None if self.caught_up else "catching up"

    def topic(self, stream: Stream) -> str:
        return f"x.{stream}"

    def lag(self) -> dict[tuple[str, int], int]:
        return {}

    def store_bytes(self) -> int:
        return self.store.size_bytes()

    def open(self, now_ms: int) -> Store:
        self.store = self._kind(self._path, "a cluster", self._window_ms, now_ms)
        return self.store

    def restart(self, now_ms: int, *, lose_disk: bool = False) -> None:
        self.store.close()
        if lose_disk:
            discard(self._path)
        self.open(now_ms)

    def apply(self, records: Sequence[Record], now_ms: int) -> None:
        """Apply records as one batch, each partition in the order of its offsets."""
        positions = dict(self.totals.positions)
        for record in records:
            positions[stream_of(record), record.partition] = record.offset + 1
        batch = RecordBatch()
        decode_records(((stream_of(record), wire(record)) for record in records), self.store.kinds, batch, MinuteLog())
        self.store.apply(batch, positions, now_ms)

    def missing(self, records: Iterable[Record]) -> list[Record]:
        """Those of the records that it has not applied."""
        positions = self.totals.positions
        return [
            record for record in records if record.offset >= positions.get((stream_of(record), record.partition), 0)
        ]

    def exported(self) -> truth.Numbers:
        """Every additive number that is not zero, named as `truth.numbers` names it."""
        found: truth.Numbers = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                name, labels = sample.name.removeprefix("streamgauge_"), dict(sample.labels)
                if sample.value and ("model" in labels or name in BESIDE) and not name.startswith("ml_"):
                    if "partition" in labels:
                        labels["partition"] = int(labels["partition"])  # type: ignore[assignment]
                    found[name, *labels.values()] = sample.value
        return found


def together(replicas: Iterable[Replica]) -> truth.Numbers:
    """What the recording rules make of several listeners before they sum over partitions: the maximum of copies."""
    found: truth.Numbers = {}
    for replica in replicas:
        for key, n in replica.exported().items():
            found[key] = max(n, found.get(key, 0))
    return found
