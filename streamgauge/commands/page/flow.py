"""How much flows, how fast and as what: from the metrics topic and the input's ends alone. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka.structs import TopicPartition

from streamgauge.commands.stats import Sums, latencies_of, quantile
from streamgauge.events import NO_EVENT, TransactionMeasured, decode_measurement

BUCKET_S = 5
KEPT_S = 900


@dataclass
class Bucket:
    """What was scored in BUCKET_S seconds."""

    sums: Sums = field(default_factory=Sums)
    labels: Counter[str] = field(default_factory=Counter)
    """Results by predicted class."""

    @property
    def texts_per_s(self) -> float:
        return self.sums.records / BUCKET_S

    def latency_s(self, q: float) -> float | None:
        """From when the broker took a record to when its outcome was written; None when there was none."""
        return quantile(self.sums.latencies, q, self.sums.max_s)


class Flow:
    """The last KEPT_S seconds, in buckets; and how far the workers are."""

    def __init__(self) -> None:
        self.buckets: dict[int, Bucket] = {}
        """By their beginning, in seconds since the epoch."""
        self._next_offsets: dict[TopicPartition, int] = {}

    def add(self, value: bytes | None, now_s: float) -> None:
        """A record of the metrics topic; what is none of ours is left out."""
        with suppress(*NO_EVENT, ValueError, OverflowError):
            self._add(decode_measurement(value or b""), now_s)

    def _add(self, event: TransactionMeasured, now_s: float) -> None:
        began_s, latencies = datetime.fromisoformat(event.began_at).timestamp(), latencies_of(event)
        tp = TopicPartition(event.topic, event.partition)
        self._next_offsets[tp] = max(event.last_offset + 1, self._next_offsets.get(tp, 0))
        if not now_s - KEPT_S <= began_s <= now_s + BUCKET_S:
            return  # a worker's clock that is wrong would fill memory, a bucket a transaction
        bucket = self.buckets.setdefault(bucket_of(began_s), Bucket())
        bucket.sums.add(event, latencies, began_s)
        bucket.labels.update(event.labels)

    def forget(self, now_s: float) -> None:
        """Drop what is older than KEPT_S."""
        for begins_s in [begins_s for begins_s in self.buckets if begins_s < now_s - KEPT_S]:
            del self.buckets[begins_s]

    def lag(self, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
        """Texts without an outcome, from where the input's partitions begin and end.

        Where no transaction is retained, all that is retained of the input is ahead.
        """
        return sum(max(0, end - max(self._next_offsets.get(tp, 0), begins[tp])) for tp, end in ends.items())

    def mix(self, since_s: float) -> dict[str, float]:
        """The share of each predicted class since then, the most frequent first."""
        counted = _total(bucket.labels for begins_s, bucket in self.buckets.items() if begins_s >= since_s)
        return {name: n / counted.total() for name, n in counted.most_common()}


def bucket_of(at_s: float) -> int:
    """The beginning of the bucket that a time is in."""
    return int(at_s // BUCKET_S * BUCKET_S)


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total
