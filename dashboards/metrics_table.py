"""All metrics as a table, read from the registries that the services export."""

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from feedback_listener.join import WINDOWS
from feedback_listener.metrics import AccuracyCollector
from feedback_listener.records import Kind, Stream
from feedback_listener.tally import CountKey, Tally
from feedback_listener.totals import Totals
from streamgauge.events import ModelRef
from streamgauge.telemetry import service_registry
from worker.metrics import Metrics
from worker.outcomes import ModelIdentity

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
INTRO = """# Metrics

Generated from the code by `python -m dashboards.build`. The worker serves its own on port 8001, the listener on 8002,
both those of Python's client library as well (`process_…`, `python_…`). A histogram has the series `_bucket`, `_sum`
and `_count`. What Prometheus records from these, `streamgauge:…`, is in [rules](rules).
"""


def worker_registry() -> CollectorRegistry:
    """A worker's registry, in which labels that come with partitions have their first child."""
    registry = service_registry()
    metrics = Metrics(registry)
    metrics.use(ModelIdentity(ModelRef(name="m", version="1", digest="sha256:0"), ("NEGATIVE", "POSITIVE")))
    for by_partition in (metrics.records_lost, metrics.lag_records, metrics.lag_seconds):
        by_partition.labels("0")
    return registry


class _Example:
    """A listener that has read a prediction and its label."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.totals.positions = {(stream, 0): 1 for stream in Stream}
        self.totals.kinds = [Kind("m@1", ("x",))]
        tally = Tally()
        tally.add(("x", "x", 9), (1, 1, 0, 0))
        for window, _name in enumerate(WINDOWS):
            self.totals.merge(window, CountKey("m@1", 0), tally)

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
