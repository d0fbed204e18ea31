"""What Prometheus scrapes: the numbers of the last batch as gauges.

Everything counted is additive over partitions, so that recording rules can sum; only `ml_model_accuracy` is a
ratio, for one listener and a quick look. Until the listener has caught up, no number is shown: absent, not wrong.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from feedback_listener.join import WINDOWS, Age, Stream
from feedback_listener.numbers import Numbers
from feedback_listener.tally import BINS, DELAY_UNITS, PROBABILITY_UNITS, Outcome, Tally
from feedback_listener.wire import Refusal, original

SERIES = ("model", "partition", "window")
LOWER_EDGES = tuple(str(number / BINS) for number in range(BINS))

Row = tuple[tuple[str, str, str], Sequence[str], Tally]
"""Values of SERIES, the model's classes, the sums."""


class Shown(Protocol):
    """What is asked of a listener."""

    @property
    def numbers(self) -> Numbers: ...
    @property
    def caught_up(self) -> bool: ...
    def topic(self, stream: Stream) -> str: ...
    def lag(self) -> dict[tuple[str, int], int]: ...
    def store_bytes(self) -> int: ...


class AccuracyCollector(Collector):
    """Exports the numbers of a listener, all of one moment."""

    def __init__(self, listener: Shown) -> None:
        self._listener = listener

    def collect(self) -> Iterable[Metric]:
        numbers = self._listener.numbers
        with numbers.lock:
            return [*self._state(numbers), *(self._counted(numbers) if self._listener.caught_up else ())]

    def _state(self, numbers: Numbers) -> Iterator[Metric]:
        listener = self._listener
        yield GaugeMetricFamily(
            "streamgauge_listener_ready", "1 when the topics have been read to their end.", int(listener.caught_up)
        )
        now = GaugeMetricFamily("streamgauge_listener_time_seconds", "The now that these numbers are of.")
        now.add_metric((), numbers.now_ms / 1000)
        yield now
        labels = ("topic", "partition")
        position = GaugeMetricFamily("streamgauge_listener_position", "Next offset to be applied.", labels=labels)
        for (stream, partition), offset in numbers.positions.items():
            position.add_metric((listener.topic(stream), str(partition)), offset)
        yield position
        lag = GaugeMetricFamily("streamgauge_listener_lag_records", "Offsets to the end of the topic.", labels=labels)
        for (topic, partition), n in listener.lag().items():
            lag.add_metric((topic, str(partition)), n)
        yield lag
        yield GaugeMetricFamily("streamgauge_listener_store_bytes", "Size of the store.", listener.store_bytes())

    def _counted(self, numbers: Numbers) -> Iterator[Metric]:
        yield from _beside(numbers)
        rows = list(_rows(numbers))
        yield from _judged(rows)
        yield from _calibration(rows)


def _rows(numbers: Numbers) -> Iterator[Row]:
    classes: dict[str, list[str]] = defaultdict(list)
    for kind in numbers.kinds:
        classes[kind.model] += [name for name in kind.classes if name not in classes[kind.model]]
    for window, series in zip(WINDOWS, numbers.windows, strict=True):
        for model, partition in numbers.windows[-1]:
            yield (model, str(partition), window), classes[model], series.get((model, partition), Tally())


def _beside(numbers: Numbers) -> Iterator[Metric]:
    beside = numbers.beside
    labels = GaugeMetricFamily(
        "streamgauge_labels", "Labels, by whether their prediction may still come.", labels=("age",)
    )
    matched = GaugeMetricFamily(
        "streamgauge_matched_labels",
        "Labels whose prediction stands in the results partition, by the label's age.",
        labels=("partition", "age"),
    )
    partitions = sorted(partition for stream, partition in numbers.positions if stream is Stream.RESULTS)
    for age in Age:
        labels.add_metric((age,), beside.labels[age])
        for partition in partitions:
            matched.add_metric((str(partition), age), beside.matched[partition, age])
    yield from (labels, matched)
    for stream in Stream:
        refused = GaugeMetricFamily(
            f"streamgauge_{stream}_refused",
            f"Retained records of {stream} that cannot be read.",
            labels=("partition", "reason"),
        )
        for its_stream, partition in sorted(numbers.positions):
            for reason in Refusal if its_stream is stream else ():
                refused.add_metric((str(partition), reason), beside.refused[stream, partition, reason])
        yield refused


def _judged(rows: Sequence[Row]) -> Iterator[Metric]:
    judged = GaugeMetricFamily(
        "streamgauge_judged_predictions",
        "Predictions by the class that their label expected and the class predicted.",
        labels=(*SERIES, "expected", "predicted"),
    )
    predictions = GaugeMetricFamily("streamgauge_predictions", "Predictions, judged or not.", labels=SERIES)
    outcomes = GaugeMetricFamily(
        "streamgauge_prediction_labels", "Further labels of predictions.", labels=(*SERIES, "outcome")
    )
    delay_sum = GaugeMetricFamily(
        "streamgauge_label_delay_seconds_sum", "From judged predictions to their labels.", labels=SERIES
    )
    delay_count = GaugeMetricFamily("streamgauge_label_delay_seconds_count", "Judged predictions.", labels=SERIES)
    samples: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for key, classes, tally in rows:
        matrix = {(expected, predicted): 0 for expected in classes for predicted in classes}
        delay = 0
        for (expected, predicted, _bin), (n, _confidence, _brier, delay_units) in tally.cells.items():
            matrix[expected, predicted] += n
            delay += delay_units
        for cell, n in matrix.items():
            judged.add_metric((*key, *map(original, cell)), n)
        for outcome in Outcome:
            outcomes.add_metric((*key, outcome), tally.labels[outcome])
        predictions.add_metric(key, tally.predictions)
        delay_sum.add_metric(key, delay / DELAY_UNITS)
        delay_count.add_metric(key, sum(matrix.values()))
        of_all = samples[key[0], key[2]]
        of_all[0] += sum(n for (expected, predicted), n in matrix.items() if expected == predicted)
        of_all[1] += sum(matrix.values())
    yield from (judged, predictions, outcomes, delay_sum, delay_count)
    accuracy = GaugeMetricFamily(
        "ml_model_accuracy", "Share of this listener's judged predictions that are right.", labels=("model", "window")
    )
    for model_and_window, (correct, n) in samples.items():
        if n:
            accuracy.add_metric(model_and_window, correct / n)
    yield accuracy


def _calibration(rows: Sequence[Row]) -> Iterator[Metric]:
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
        "streamgauge_brier_sum", "Squared distance of scores and truth, of judged predictions.", labels=SERIES
    )
    for key, _classes, tally in rows:
        sums = [[0, 0, 0] for _ in range(BINS)]
        brier = 0
        for (expected, predicted, number), (n, confidence_units, brier_units, _delay) in tally.cells.items():
            in_bin = sums[number]
            in_bin[0] += n
            in_bin[1] += confidence_units
            in_bin[2] += n if expected == predicted else 0
            brier += brier_units
        for edge, (n, confidence, correct) in zip(LOWER_EDGES, sums, strict=True):
            n_of.add_metric((*key, edge), n)
            confidence_of.add_metric((*key, edge), confidence / PROBABILITY_UNITS)
            correct_of.add_metric((*key, edge), correct)
        brier_of.add_metric(key, brier / PROBABILITY_UNITS)
    yield from (n_of, confidence_of, correct_of, brier_of)
