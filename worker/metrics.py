"""The worker's metrics, in an injected registry. The names are a contract: dashboards and rules read them."""

from bisect import bisect_left
from collections import Counter as CountOf
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamgauge.events import Reason
from worker.outcomes import ModelIdentity

LATENCY_EDGES_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)
"""An edge stands at each alert threshold, 2 s among them."""
STAGE_EDGES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
CONFIDENCE_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
BATCH_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKEN_EDGES = (8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096)
LOOP_LAG_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """As `histogram.observe` with each value, for a tenth of the CPU: locks are taken once a bucket, not a value.

    prometheus_client counts one value at a time only; so its private parts are used (those of 0.26), and a test
    compares with `observe`.
    """
    histogram._sum.inc(sum(values))
    for bucket, count in CountOf(bisect_left(histogram._upper_bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)


class ModelMetrics(NamedTuple):
    """What is counted of one model."""

    requests: Mapping[str, Counter]
    """By label."""
    latency: Histogram
    confidence: Histogram


class Lag(NamedTuple):
    """What a worker has still to do in an input partition; None where it is not known."""

    partition: int
    records: int | None
    seconds: float | None
    end_offset: int | None


class LagCollector(Collector):
    """Lag as `read` tells it at each scrape: what is not known is absent, and never 0."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[Lag]] = tuple

    def describe(self) -> Iterator[Metric]:
        """The names, for who asks for some only."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "streamgauge_lag_records",
            "Records not yet committed, by input partition; absent while no broker answers.",
            labels=["partition"],
        )
        seconds = GaugeMetricFamily(
            "streamgauge_lag_seconds",
            "Age of the oldest record fetched and not yet committed, by input partition; 0 when there is none, absent "
            "when there is none and no broker answers.",
            labels=["partition"],
        )
        end_offset = GaugeMetricFamily(
            "streamgauge_input_end_offset",
            "Offset after the last record of an input partition that this worker reads: its rate is what arrives, "
            "markers of transactions included. Absent while no broker answers.",
            labels=["partition"],
        )
        for lag in self.read():
            for family, value in ((records, lag.records), (seconds, lag.seconds), (end_offset, lag.end_offset)):
                if value is not None:
                    family.add_metric([str(lag.partition)], value)
        yield from (records, seconds, end_offset)


class PartitionsCollector(Collector):
    """How many partitions the input topic has, and how many of them are owned, as `read` tells at each scrape."""

    def __init__(self) -> None:
        self.read: Callable[[], tuple[int, int] | None] = lambda: None

    def describe(self) -> Iterator[Metric]:
        """The names, for who asks for some only."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        exist = GaugeMetricFamily(
            "streamgauge_input_partitions", "Partitions of the input topic; absent while no broker answers."
        )
        owned = GaugeMetricFamily(
            "streamgauge_partitions_owned", "Input partitions fenced and being read; absent while no broker answers."
        )
        if known := self.read():
            for family, n in zip((exist, owned), known, strict=True):
                family.add_metric((), n)
        yield from (exist, owned)


class Metrics:
    """Everything that a worker counts; children that matter exist at 0 from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models: dict[ModelIdentity, ModelMetrics] = {}
        self.worker = Info(
            "streamgauge_worker",
            "This worker, by its name in the group and in metric events; its group, and the topic that it reads.",
            registry=registry,
        )
        self._in_use = Info("streamgauge_model", "The model in use.", registry=registry)

        def counter(name: str, text: str, *label_names: str) -> Counter:
            return Counter(name, text, label_names, registry=registry)

        def gauge(name: str, text: str, *label_names: str) -> Gauge:
            return Gauge(name, text, label_names, registry=registry)

        def histogram(name: str, text: str, edges: tuple[float, ...], *label_names: str) -> Histogram:
            return Histogram(name, text, label_names, buckets=edges, registry=registry)

        self._requests = counter(
            "ml_model_requests_total", "Texts scored and committed, by predicted label.", "model", "label"
        )
        self._latency = histogram(
            "ml_model_latency_seconds",
            "From fetched to scored, a text: tokenise, queue, infer.",
            LATENCY_EDGES_S,
            "model",
        )
        self._confidence = histogram(
            "ml_model_confidence_scores", "Probability of the predicted label.", CONFIDENCE_EDGES, "model"
        )
        self.end_to_end = histogram(
            "streamgauge_end_to_end_latency_seconds",
            "From when the broker took a record to the commit of its outcome.",
            LATENCY_EDGES_S,
        )
        stage = histogram(
            "streamgauge_stage_seconds",
            "Time in a stage. A text: tokenize, queue, infer (its batch), wait (until its transaction begins). "
            "A transaction: publish (all of it), commit (its last step).",
            STAGE_EDGES_S,
            "stage",
        )
        self.tokenize, self.queue, self.infer, self.wait, self.publish, self.commit = (
            stage.labels(name) for name in ("tokenize", "queue", "infer", "wait", "publish", "commit")
        )
        dead_letters = counter("streamgauge_dead_letters_total", "Records refused, by reason.", "reason")
        self.dead_letters = {reason: dead_letters.labels(reason.value) for reason in Reason}
        self.records_lost = counter(
            "streamgauge_records_lost_total",
            "Records that the topic had deleted before they were read.",
            "partition",
        )
        self.truncated = counter("streamgauge_truncated_texts_total", "Texts longer than the model reads.")
        self.tokens = counter("streamgauge_tokens_total", "Tokens of scored texts.")
        self.padded_tokens = counter("streamgauge_padded_tokens_total", "Tokens computed, padding included.")
        self.batch_texts = histogram("streamgauge_batch_texts", "Texts in a batch.", BATCH_EDGES)
        self.batch_tokens = histogram("streamgauge_batch_padded_tokens", "Longest x count of a batch.", TOKEN_EDGES)
        self.failed_batches = counter(
            "streamgauge_failed_batches_total", "Batches that the model failed on; each is halved and tried again."
        )
        self.model_busy = counter("streamgauge_model_busy_seconds_total", "Time that model slots spent on batches.")
        self.model_slots = gauge("streamgauge_model_slots", "Batches that can be inferred at once.")
        transactions = counter("streamgauge_transactions_total", "Transactions, by outcome.", "outcome")
        self.committed, self.aborted, self.fenced = (
            transactions.labels(outcome) for outcome in ("committed", "aborted", "fenced")
        )
        self.rebalances = counter(
            "streamgauge_rebalances_total", "Times that the group gave this worker its partitions."
        )
        self.reopens = counter(
            "streamgauge_partition_reopens_total", "Times that a partition was fenced and read anew after an error."
        )
        self.partitions = PartitionsCollector()
        registry.register(self.partitions)
        self.ready = gauge(
            "streamgauge_worker_ready", "1 when what comes can be committed: as /readyz says, which tells why not."
        )
        self.lag = LagCollector()
        registry.register(self.lag)
        self.backlog_records = gauge("streamgauge_backlog_records", "Texts tokenised and waiting for the model.")
        self.credit_records = gauge("streamgauge_credit_records", "Records between fetch and commit.")
        self.credit_bytes = gauge("streamgauge_credit_bytes", "Memory that records hold between fetch and commit.")
        self.credit_records_limit = gauge("streamgauge_credit_records_limit", "Where fetching stops, in records.")
        self.credit_bytes_limit = gauge("streamgauge_credit_bytes_limit", "Where fetching stops, in bytes.")
        self.event_loop_lag = histogram(
            "streamgauge_event_loop_lag_seconds", "How late the event loop ran a timer.", LOOP_LAG_EDGES_S
        )

    def use(self, model: ModelIdentity) -> None:
        """This model scores from now on: it is named as the one in use, and its children exist at 0."""
        ref = model.ref
        self._in_use.info({"model": ref.key, "name": ref.name, "version": ref.version, "digest": ref.digest})
        self.of(model)

    def of(self, model: ModelIdentity) -> ModelMetrics:
        """The children of whoever scored."""
        if model not in self._models:
            key = model.ref.key
            self._models[model] = ModelMetrics(
                {label: self._requests.labels(key, label) for label in model.labels},
                self._latency.labels(key),
                self._confidence.labels(key),
            )
        return self._models[model]
