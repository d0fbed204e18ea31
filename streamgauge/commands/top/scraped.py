"""What a worker says of itself on `/metrics`, and what it has committed between two looks. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamgauge.commands.top.flow import Committed
from streamgauge.errors import StreamgaugeError

LATENCY = "streamgauge_end_to_end_latency_seconds"
MEMORY = "process_resident_memory_bytes"
"""Python's client library tells it on Linux alone."""


class WorkerShown(NamedTuple):
    """A worker as it is now, and what it has counted since it started."""

    name: str
    """In the group, and in its metric events."""
    is_ready: bool
    partitions: int | None
    """Of the input topic; None before the worker knows them."""
    lag: Mapping[int, int]
    """Records by input partition: those that it owns, and of which it knows."""
    oldest_s: float | None
    """The age of the oldest record that it holds; 0 when it holds none, None when it does not know."""
    memory_bytes: float | None
    records: int
    dead_letters: int
    latencies: Mapping[float, int]
    """Records by edge, as in `Committed`."""


def read_worker(url: str, page: str) -> WorkerShown:
    """Parse what a worker serves. Raises StreamgaugeError when it is no worker of this version, ValueError or
    OverflowError when it is no page of metrics.
    """
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    names = _values(samples, "streamgauge_worker_info", "worker")
    if not names:
        raise StreamgaugeError(f"{url}: not a worker of this version")
    return _worker(names[0], samples)


def _worker(name: str, samples: Sequence[Sample]) -> WorkerShown:
    lag = _by(samples, "streamgauge_lag_records", "partition")
    oldest = _by(samples, "streamgauge_lag_seconds", "partition")
    partitions = _one(samples, "streamgauge_input_partitions")
    return WorkerShown(
        name=name,
        is_ready=bool(_one(samples, "streamgauge_worker_ready")),
        partitions=int(partitions) if partitions else None,
        lag={int(partition): int(records) for partition, records in lag.items()},
        oldest_s=max(oldest.values(), default=None),
        memory_bytes=_one(samples, MEMORY),
        records=int(_one(samples, f"{LATENCY}_count") or 0),
        dead_letters=int(sum(_by(samples, "streamgauge_dead_letters_total", "reason").values())),
        latencies=_counts(_by(samples, f"{LATENCY}_bucket", "le")),
    )


def committed_between(before: WorkerShown, after: WorkerShown) -> Committed:
    """Of two looks at one URL; a worker that has started in between has counted from 0 on."""
    if before.name != after.name or after.records < before.records:
        before = after._replace(records=0, dead_letters=0, latencies={})
    more = Counter(after.latencies)
    more.subtract(before.latencies)
    # How long those above all edges took is not told; as Prometheus has it, they count as the last edge.
    reached = [edge for edge in more if edge < math.inf and (more[edge] or more[math.inf])]
    return Committed(
        after.records - before.records, after.dead_letters - before.dead_letters, more, max(reached, default=0.0)
    )


def _counts(cumulative: Mapping[str, float]) -> dict[float, int]:
    """Of a histogram's buckets, each of which holds those below it as well."""
    found, below = {}, 0
    for edge, n in sorted((float(edge), int(n)) for edge, n in cumulative.items()):
        found[edge], below = n - below, n
    return found


def _values(samples: Iterable[Sample], name: str, label: str) -> list[str]:
    return [sample.labels[label] for sample in samples if sample.name == name and label in sample.labels]


def _by(samples: Iterable[Sample], name: str, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in samples if sample.name == name and label in sample.labels}


def _one(samples: Iterable[Sample], name: str) -> float | None:
    return next((sample.value for sample in samples if sample.name == name), None)
