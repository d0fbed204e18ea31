"""What Prometheus scrapes: the totals as gauges.

Everything counted is additive over partitions, so that recording rules can sum; only `ml_model_accuracy` is a
ratio, for one listener and a quick look. Until the listener has caught up, and while no
broker answers it, no number is shown: absent, not wrong.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from feedback_listener.decoding import original
from feedback_listener.join import WINDOWS, Age
from feedback_listener.records import Refusal, Stream
from feedback_listener.tally import BINS, DELAY_UNITS, PROBABILITY_UNITS, CountKey, LabelOutcome, Tally
from feedback_listener.totals import Totals

SERIES = (*CountKey._fields, "window")
LOWER_EDGES = tuple(str(number / BINS) for number in range(BINS))


class Shown(NamedTuple):
    """The sums of one key and window."""

    series: tuple[str, ...]
    """Values of SERIES."""
    model: str
    window: str
    classes: Sequence[str]
    """The model's."""
    tally: Tally


class ListenerState(Protocol):
    """What is asked of a listener."""

    @property
    def totals(self) -> Totals: ...
    def ready(self) -> str | None: ...
    def topic(self, stream: Stream) -> str: ...
    def lag(self) -> dict[tuple[str, int], int]: ...
    def store_bytes(self) -> int: ...


class AccuracyCollector(Collector):
    """Exports the totals of a listener, all of one moment."""

    def __init__(self, listener: ListenerState) -> None:
        self._listener = listener

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
        every = list(_shown(totals))
        yield from _judged(every)
        yield from _calibration(every)


def _shown(totals: Totals) -> Iterator[Shown]:
    classes: dict[str, list[str]] = defaultdict(list)
    for kind in totals.kinds:
        classes[kind.model] += [name for name in kind.classes if name not in classes[kind.model]]
    for window, tallies in zip(WINDOWS, totals.windows, strict=True):
        for key in totals.windows[-1]:
            series = (*map(str, key), window)
            yield Shown(series, key.model, window, classes[key.model], tallies.get(key, Tally()))


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
        "Predictions by the class that their label expected and the class predicted.",
        labels=(*SERIES, "expected", "predicted"),
    )
    predictions = GaugeMetricFamily("streamgauge_predictions", "Predictions, judged or not.", labels=SERIES)
    outcomes = GaugeMetricFamily(
        "streamgauge_prediction_labels",
        "Labels beside the one that judges, by what they are.",
        labels=(*SERIES, "outcome"),
    )
    delay_sum = GaugeMetricFamily(
        "streamgauge_label_delay_seconds_sum", "Seconds from judged predictions to their labels, summed.", labels=SERIES
    )
    delay_count = GaugeMetricFamily("streamgauge_label_delay_seconds_count", "Judged predictions.", labels=SERIES)
    right_and_judged: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for series, model, window, classes, tally in every:
        matrix = {(expected, predicted): 0 for expected in classes for predicted in classes}
        delay = 0
        for (expected, predicted, _bin), (n, _confidence, _brier, delay_units) in tally.cells.items():
            matrix[expected, predicted] += n
            delay += delay_units
        for cell, n in matrix.items():
            judged.add_metric((*series, *map(original, cell)), n)
        for outcome in LabelOutcome:
            outcomes.add_metric((*series, outcome), tally.labels[outcome])
        predictions.add_metric(series, tally.predictions)
        delay_sum.add_metric(series, delay / DELAY_UNITS)
        delay_count.add_metric(series, sum(matrix.values()))
        of_all = right_and_judged[model, window]
        of_all[0] += sum(n for (expected, predicted), n in matrix.items() if expected == predicted)
        of_all[1] += sum(matrix.values())
    yield from (judged, predictions, outcomes, delay_sum, delay_count)
    accuracy = GaugeMetricFamily(
        "ml_model_accuracy", "Share of this listener's judged predictions that are right.", labels=("model", "window")
    )
    for model_and_window, (correct, n) in right_and_judged.items():
        if n:
            accuracy.add_metric(model_and_window, correct / n)
    yield accuracy


def _calibration(every: Sequence[Shown]) -> Iterator[Metric]:
    """Bins are named by their lower edge."""
    labels = (*SERIES, "bin")
    n_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_predictions", "Judged predictions by confidence.", labels=labels
    )
    confidence_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_confidence_sum", "Sum of the confidences of judged predictions.", labels=labels
    )
    correct_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_correct", "Judged predictions that are right, by confidence.", labels=labels
    )
    brier_of = GaugeMetricFamily(
        "streamgauge_brier_sum", "Sum of the Brier scores of judged predictions.", labels=SERIES
    )
    for series, _model, _window, _classes, tally in every:
        sums = [[0, 0, 0] for _ in range(BINS)]
        brier = 0
        for (expected, predicted, number), (n, confidence_units, brier_units, _delay) in tally.cells.items():
            in_bin = sums[number]
            in_bin[0] += n
            in_bin[1] += confidence_units
            in_bin[2] += n if expected == predicted else 0
            brier += brier_units
        for edge, (n, confidence, correct) in zip(LOWER_EDGES, sums, strict=True):
            n_of.add_metric((*series, edge), n)
            confidence_of.add_metric((*series, edge), confidence / PROBABILITY_UNITS)
            correct_of.add_metric((*series, edge), correct)
        brier_of.add_metric(series, brier / PROBABILITY_UNITS)
    yield from (n_of, confidence_of, correct_of, brier_of)
