"""All metrics as a table, read from the registries that the services export."""

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from feedback_listener.audit import AuditMinute
from feedback_listener.audit_metrics import CLAIMS, COUNTED, MATURED, MATURED_WINDOWS, STANDING
from feedback_listener.join import WINDOWS, Age
from feedback_listener.metrics import AccuracyCollector
from feedback_listener.names import ANOTHER, MAX_CELLS, MAX_MODELS, MAX_NAME_BYTES, OTHER
from feedback_listener.records import Refusal, Stream
from feedback_listener.settings import ListenerSettings, Shard
from feedback_listener.tally import AUDIT, BINS, DELAY_EDGES_S, CountKey, LabelOutcome, Tally
from feedback_listener.totals import Totals
from streamgauge.events import ModelRef
from streamgauge.settings import DAY_MS
from streamgauge.telemetry import service_registry
from worker.metrics import Lag, Metrics
from worker.outcomes import ModelIdentity

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
SERIES_A_MODEL = 6 + len(DELAY_EDGES_S) + len(LabelOutcome)
"""In each partition and window, besides bins and cells."""
SERIES_A_PARTITION = len(WINDOWS) * ((MAX_MODELS + 1) * (SERIES_A_MODEL + 3 * BINS) + MAX_CELLS)
SERIES_A_RESULTS_PARTITION = SERIES_A_PARTITION + len(WINDOWS) * (MAX_MODELS + 1) + len(Age)
"""With the accuracy of its models, and its matched labels."""
SERIES_A_TOPIC_PARTITION = 2 + len(Refusal)
"""Of each topic that is read: position, lag, refused records."""
SERIES_OF_AN_AUDIT = len(WINDOWS) * len(COUNTED) + len(MATURED_WINDOWS) * len(MATURED) + len(STANDING) + len(CLAIMS)
"""Of one model."""
SERIES_BESIDES = 6 + len(Age)
"""Ready, time, store; threshold, floor, horizon; labels."""


def most_series(partitions: int) -> int:
    """What a listener exports at most with so many partitions of each topic, besides those of its process."""
    of_partition = SERIES_A_RESULTS_PARTITION + len(Stream) * SERIES_A_TOPIC_PARTITION
    return partitions * of_partition + (MAX_MODELS + 1) * SERIES_OF_AN_AUDIT + SERIES_BESIDES


INTRO = f"""# Metrics

Generated from the code by `python -m dashboards.build`. The worker serves its own on port 8001, the listener on 8002,
both those of Python's client library as well (`process_…`, `python_…`). A histogram has the series `_bucket`, `_sum`
and `_count`; one that can fall, a gaugehistogram, has `_bucket`, `_gsum` and `_gcount`. What Prometheus records from
these, `streamgauge:…`, is in [rules](rules). Every listener reads the whole audit topic: of several listeners, all
`streamgauge_audit_…` but those of refused records are equal, and not to be added.

Of each results partition, the listener names the {MAX_MODELS} models that have most predictions.
Of their classes it names those that are judged most: as many as leave at most {MAX_CELLS} cells of the matrix.
The others are added up as `{OTHER}`. One that is wrong between two others is predicted `{ANOTHER}`.
A name that takes more than {MAX_NAME_BYTES} bytes is another, too.
So a partition has at most {SERIES_A_PARTITION:,} series: 0.2 MB, or 0.48 MB with the longest names.
All in all, a listener exports at most {most_series(4):,} with 4 partitions a topic, and {most_series(12):,} with 12.
With one model of two classes it is a tenth: see [sizing](../infra/sizing.md).
"""


def worker_registry() -> CollectorRegistry:
    """A worker's registry, in which labels that come with partitions have their first child."""
    registry = service_registry()
    metrics = Metrics(registry)
    metrics.worker.info({"worker": "w", "group": "g", "topic": "t"})
    metrics.use(ModelIdentity(ModelRef(name="m", version="1", digest="sha256:0"), ("NEGATIVE", "POSITIVE")))
    metrics.records_lost.labels("0")
    metrics.partitions.read = lambda: (1, 1)
    metrics.lag.read = lambda: [Lag(0, 0, 0, 0)]
    return registry


class _Example:
    """A listener that has read a prediction and its label."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.totals.positions = {(stream, 0): 1 for stream in Stream}
        tally = Tally()
        tally.add(("x", "x", 9), (1, 1, 0, 0))
        for window, _name in enumerate(WINDOWS):
            for partition in (0, AUDIT):
                self.totals.merge(window, CountKey("m@1", partition), tally)
        self.totals.add_audits(self.totals.horizons, {(0, "m@1"): AuditMinute(predictions=1, judged=1, right=1)})
        self.terms = ListenerSettings().terms(DAY_MS)
        self.shard = Shard(0, 1)

    def ready(self) -> str | None:
        return None

    def topic(self, stream: Stream) -> str:
        return str(stream)

    def lag(self) -> dict[tuple[str, int], int]:
        return {("results", 0): 0}

    def store_bytes(self) -> int:
        return 0


def listener_registry() -> CollectorRegistry:
    """A listener's registry, with one prediction and its label."""
    registry = service_registry()
    registry.register(AccuracyCollector(_Example()))
    return registry


def exported_names() -> set[str]:
    """The names of all series that the services export."""
    return {
        name
        for registry in (worker_registry(), listener_registry())
        for metric in registry.collect()
        for name in [*(sample.name for sample in metric.samples), *_series(metric)]
    }


def markdown() -> str:
    """The page: a section for each service, and one for what both export of ours."""
    worker, listener = _ours(worker_registry()), _ours(listener_registry())
    sections = {
        "Worker": [metric for name, metric in worker.items() if name not in listener],
        "Listener": [metric for name, metric in listener.items() if name not in worker],
        "Both": [metric for name, metric in worker.items() if name in listener],
    }
    return INTRO + "".join(_section(title, metrics) for title, metrics in sections.items())


def _ours(registry: CollectorRegistry) -> dict[str, Metric]:
    return {metric.name: metric for metric in registry.collect() if not metric.name.startswith(("process_", "python_"))}


def _section(title: str, metrics: list[Metric]) -> str:
    lines = [f"\n## {title}\n", "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in sorted(metrics, key=lambda metric: metric.name):
        labels = ", ".join(dict.fromkeys(name for sample in metric.samples for name in sample.labels if name != "le"))
        lines.append(
            f"| `{_series(metric)[0].removesuffix('_bucket')}` | {metric.type} | {labels} | {metric.documentation} |"
        )
    return "\n".join(lines) + "\n"


def _series(metric: Metric) -> list[str]:
    return [metric.name + suffix for suffix in SUFFIXES.get(metric.type, ("",))]
