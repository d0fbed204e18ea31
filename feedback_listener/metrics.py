"""What Prometheus scrapes: the totals as gauges.

Everything counted is additive over partitions, so that recording rules can sum; only `ml_model_accuracy` is a
ratio, for one listener and a quick look. What is said of the audit is not to be added: `audit_metrics.py`. Until the
listener has caught up, and while no broker answers it, no number is shown: absent, not wrong. What is exported by name
is bounded (`names.py`). Of the confusion matrix and of the bins only what exists is exported, and the diagonal.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from feedback_listener.audit import Terms
from feedback_listener.audit_metrics import AuditMetrics
from feedback_listener.decoding import original
from feedback_listener.join import WINDOWS, Age
from feedback_listener.names import ANOTHER, Names, names
from feedback_listener.records import Refusal, Stream
from feedback_listener.settings import Shard
from feedback_listener.tally import (
    AUDIT,
    BINS,
    DELAY_EDGES_S,
    DELAY_UNITS,
    PROBABILITY_UNITS,
    CountKey,
    LabelOutcome,
    Tally,
)
from feedback_listener.totals import Totals
from feedback_listener.unlabelled import BinSums, estimated_accuracy

SERIES = (*CountKey._fields, "window")
LOWER_EDGES = tuple(str(number / BINS) for number in range(BINS))


class Shown(NamedTuple):
    """The sums of one key and window."""

    series: tuple[str, ...]
    """Values of SERIES."""
    partition: int
    model: str
    window: str
    tally: Tally
    """By the names that are exported."""
    estimated_correct: float


class ListenerState(Protocol):
    """What is asked of a listener."""

    @property
    def totals(self) -> Totals: ...
    @property
    def terms(self) -> Terms: ...
    @property
    def shard(self) -> Shard: ...
    def ready(self) -> str | None: ...
    def topic(self, stream: Stream) -> str: ...
    def lag(self) -> dict[tuple[str, int], int]: ...
    def store_bytes(self) -> int: ...


class AccuracyCollector(Collector):
    """Exports the totals of a listener, all of one moment."""

    def __init__(self, listener: ListenerState) -> None:
        self._listener = listener
        self._audit = AuditMetrics()

    def collect(self) -> Iterable[Metric]:
        totals, is_ready = self._listener.totals, self._listener.ready() is None
        with totals.lock:
            return [*self._state(totals, is_ready=is_ready), *(self._counted(totals) if is_ready else ())]

    def _state(self, totals: Totals, *, is_ready: bool) -> Iterator[Metric]:
        listener = self._listener
        yield GaugeMetricFamily(
            "streamgauge_listener_ready",
            "1 when the topics have been read to their end and brokers answer.",
            int(is_ready),
        )
        now = GaugeMetricFamily("streamgauge_listener_time_seconds", "Unix time at which the shown numbers are true.")
        now.add_metric((), totals.now_ms / 1000)
        yield now
        shards = GaugeMetricFamily(
            "streamgauge_listener_shards",
            "How many listeners share the partitions of the results topic; which one this is, is its label.",
            labels=("topic", "shard"),
        )
        shards.add_metric((listener.topic(Stream.RESULTS), str(listener.shard.number)), listener.shard.of)
        yield shards
        labels = ("topic", "partition")
        position = GaugeMetricFamily(
            "streamgauge_listener_position", "Offset of the next record to be counted.", labels=labels
        )
        for (stream, partition), offset in totals.positions.items():
            position.add_metric((listener.topic(stream), str(partition)), offset)
        yield position
        lag = GaugeMetricFamily(
            "streamgauge_listener_lag_records",
            "Offsets from the position to the end of what is committed; absent while no broker answers.",
            labels=labels,
        )
        for (topic, partition), n in listener.lag().items():
            lag.add_metric((topic, str(partition)), n)
        yield lag
        yield GaugeMetricFamily("streamgauge_listener_store_bytes", "Size of the store.", listener.store_bytes())

    def _counted(self, totals: Totals) -> Iterator[Metric]:
        yield from _labels_and_refusals(totals)
        shown = list(_shown(totals))
        every = [each for each in shown if each.partition != AUDIT]
        yield from _judged(every)
        yield from _calibration(every)
        audits = {(each.model, each.window): each.tally for each in shown if each.partition == AUDIT}
        yield from self._audit.collect(audits, totals, self._listener.terms)


def _shown(totals: Totals) -> Iterator[Shown]:
    """Every model that has predictions at all is in every window."""
    by_partition: dict[int, dict[str, Tally]] = defaultdict(dict)
    for key, tally in totals.windows[-1].items():
        by_partition[key.partition][original(key.model)] = tally
    names_of = {partition: names(tallies) for partition, tallies in by_partition.items()}
    keys = {key: key._replace(model=names_of[key.partition].model(original(key.model))) for key in totals.windows[-1]}
    for window, tallies in zip(WINDOWS, totals.windows, strict=True):
        sums = {key: Tally() for key in keys.values()}
        estimates: dict[CountKey, float] = defaultdict(float)
        for key, tally in tallies.items():
            _add_by_names(sums[keys[key]], original(key.model), tally, names_of[key.partition])
            estimates[keys[key]] += _estimated_correct(tally, totals.windows[-1].get(CountKey(key.model, AUDIT)))
        for key, tally in sums.items():
            series = *map(str, key), window
            yield Shown(series, key.partition, key.model, window, tally, estimates[key])


def _estimated_correct(tally: Tally, audit: Tally | None) -> float:
    """How many of these predictions are right, estimated from their confidences and the model's retained audit."""
    judged: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for (expected, predicted, number), (n, *_sums) in audit.cells.items() if audit else ():
        judged[number] += n
        right[number] += n if expected == predicted else 0
    bins = [
        BinSums(n, confidence / PROBABILITY_UNITS, judged[number], right[number])
        for number, (n, confidence) in tally.scored.items()
    ]
    return (estimated_accuracy(bins) or 0) * tally.predictions


def _add_by_names(total: Tally, model: str, tally: Tally, exported: Names) -> None:
    for number, sums in tally.scored.items():
        total.score(number, *sums)
    total.labels.update(tally.labels)
    total.delays.update(tally.delays)
    for (expected, predicted, number), amounts in tally.cells.items():
        _model, *pair = exported.pair((model, original(expected), original(predicted)))
        total.add((pair[0], pair[1], number), amounts)


def _labels_and_refusals(totals: Totals) -> Iterator[Metric]:
    counted = totals.labels_and_refusals
    labels = GaugeMetricFamily(
        "streamgauge_labels",
        "Labels by age. recent: their prediction may still come; old: not any more.",
        labels=("age",),
    )
    matched = GaugeMetricFamily(
        "streamgauge_matched_labels",
        "Labels that have a prediction in this results partition, by age.",
        labels=("partition", "age"),
    )
    partitions = sorted(partition for stream, partition in totals.positions if stream is Stream.RESULTS)
    for age in Age:
        labels.add_metric((age,), counted.labels[age])
        for partition in partitions:
            matched.add_metric((str(partition), age), counted.matched[partition, age])
    yield from (labels, matched)
    for stream in Stream:
        refused = GaugeMetricFamily(
            f"streamgauge_{stream}_refused",
            f"Records of the {stream} topic that take no part, by reason.",
            labels=("partition", "reason"),
        )
        for its_stream, partition in sorted(totals.positions):
            for reason in Refusal if its_stream is stream else ():
                refused.add_metric((str(partition), reason), counted.refused[stream, partition, reason])
        yield refused


def _judged(every: Sequence[Shown]) -> Iterator[Metric]:
    judged = GaugeMetricFamily(
        "streamgauge_judged_predictions",
        "Predictions by the class that their label expected and the class predicted: what exists, and the diagonal.",
        labels=(*SERIES, "expected", "predicted"),
    )
    predictions = GaugeMetricFamily("streamgauge_predictions", "Predictions, judged or not.", labels=SERIES)
    outcomes = GaugeMetricFamily(
        "streamgauge_prediction_labels",
        "Labels beside the one that judges, by what they are.",
        labels=(*SERIES, "outcome"),
    )
    estimated = GaugeMetricFamily(
        "streamgauge_estimated_correct",
        "How many predictions are right, judged or not, estimated from their confidences and the audit.",
        labels=SERIES,
    )
    delays = GaugeHistogramMetricFamily(
        "streamgauge_label_delay_seconds", "From judged predictions to their labels.", labels=SERIES
    )
    right_and_judged: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for series, _partition, model, window, tally, estimated_correct in every:
        matrix: Counter[tuple[str, str]] = Counter()
        delay = 0
        for (expected, predicted, _bin), (n, _confidence, _brier, delay_units) in tally.cells.items():
            matrix[expected, predicted] += n
            # A class of which none is right has a recall of 0: its cell on the diagonal says so.
            for name in {expected, predicted} - {ANOTHER}:
                matrix[name, name] += 0
            delay += delay_units
        for cell, n in matrix.items():
            judged.add_metric((*series, *cell), n)
        for outcome in LabelOutcome:
            outcomes.add_metric((*series, outcome), tally.labels[outcome])
        predictions.add_metric(series, tally.predictions)
        estimated.add_metric(series, estimated_correct)
        delays.add_metric(series, _cumulative(tally.delays), delay / DELAY_UNITS)
        of_all = right_and_judged[model, window]
        of_all[0] += sum(n for (expected, predicted), n in matrix.items() if expected == predicted)
        of_all[1] += sum(matrix.values())
    yield from (judged, predictions, outcomes, estimated, delays)
    accuracy = GaugeMetricFamily(
        "ml_model_accuracy", "Share of this listener's judged predictions that are right.", labels=("model", "window")
    )
    for model_and_window, (correct, n) in right_and_judged.items():
        if n:
            accuracy.add_metric(model_and_window, correct / n)
    yield accuracy


def _cumulative(delays: Counter[int]) -> list[tuple[str, float]]:
    """Upper edges, and how many delays are not above them."""
    n = 0
    buckets = []
    for number, edge in enumerate(DELAY_EDGES_S):
        n += delays[number]
        buckets.append((str(float(edge)), float(n)))
    return [*buckets, ("+Inf", float(delays.total()))]


def _calibration(every: Sequence[Shown]) -> Iterator[Metric]:
    """Bins are named by their lower edge."""
    labels = (*SERIES, "bin")
    n_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_predictions", "Judged predictions by confidence.", labels=labels
    )
    confidence_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_confidences", "Sum of the confidences of judged predictions.", labels=labels
    )
    correct_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_correct", "Judged predictions that are right, by confidence.", labels=labels
    )
    brier_of = GaugeMetricFamily(
        "streamgauge_brier_scores", "Sum of the Brier scores of judged predictions.", labels=SERIES
    )
    for series, *_of, tally, _estimated_correct in every:
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        brier = 0
        for (expected, predicted, number), (n, confidence_units, brier_units, _delay) in tally.cells.items():
            counted = sums[number]
            counted[0] += n
            counted[1] += confidence_units
            counted[2] += n if expected == predicted else 0
            brier += brier_units
        for number, (n, confidence, correct) in sorted(sums.items()):
            in_bin = (*series, LOWER_EDGES[number])
            n_of.add_metric(in_bin, n)
            confidence_of.add_metric(in_bin, confidence / PROBABILITY_UNITS)
            correct_of.add_metric(in_bin, correct)
        brier_of.add_metric(series, brier / PROBABILITY_UNITS)
    yield from (n_of, confidence_of, correct_of, brier_of)
