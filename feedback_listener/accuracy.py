"""What Prometheus scrapes: the join's numbers as gauges, read from its state when they are asked for.

Everything counted is additive over partitions, so that recording rules can sum; only `ml_model_accuracy` is a
ratio, for one listener and a quick look. Until the listener has caught up, no number is shown: absent, not wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from feedback_listener.join import WINDOWS, Join, Stream
from feedback_listener.tally import BINS, DELAY_UNITS, PROBABILITY_UNITS, Tally

SERIES = ("model", "partition", "window")
LOWER_EDGES = tuple(str(number / BINS) for number in range(BINS))


class AccuracyCollector(Collector):
    """Exports a join; `now_ms` is the clock, `caught_up` says whether the numbers are complete."""

    def __init__(
        self, join: Join, topics: Mapping[Stream, str], now_ms: Callable[[], int], caught_up: Callable[[], bool]
    ) -> None:
        self._join = join
        self._topics = topics
        self._now_ms = now_ms
        self._caught_up = caught_up

    def collect(self) -> Iterable[Metric]:
        self._join.advance(self._now_ms())
        yield from self._listener()
        if not self._caught_up():
            return
        yield from self._feedback()
        yield from _judged(self._join)
        yield from _calibration(self._join)

    def _listener(self) -> Iterator[Metric]:
        ready = int(self._caught_up())
        yield GaugeMetricFamily("streamgauge_listener_ready", "1 when the topics have been read to their end.", ready)
        time_seconds = GaugeMetricFamily("streamgauge_listener_time_seconds", "The now that these numbers are of.")
        time_seconds.add_metric((), self._join.now_ms / 1000)
        yield time_seconds
        position = GaugeMetricFamily(
            "streamgauge_listener_position", "Next offset to read.", labels=("topic", "partition")
        )
        for stream, positions in self._join.positions.items():
            for partition, offset in positions.items():
                position.add_metric((self._topics[stream], str(partition)), offset)
        yield position

    def _feedback(self) -> Iterator[Metric]:
        outcomes = GaugeMetricFamily(
            "streamgauge_feedback_labels", "What became of the retained labels.", labels=("outcome",)
        )
        for outcome, n in self._join.outcomes().items():
            outcomes.add_metric((outcome,), n)
        yield outcomes
        for stream in Stream:
            refused = GaugeMetricFamily(
                f"streamgauge_{stream}_refused",
                f"Retained records of {stream} that cannot be read.",
                labels=("reason",),
            )
            for reason, n in self._join.refused(stream).items():
                refused.add_metric((reason,), n)
            yield refused


def _tallies(join: Join) -> Iterator[tuple[tuple[str, str, str], set[str], Tally]]:
    """Label values, classes and tally of every model, partition and window."""
    for (model, partition), series in join.series.items():
        for window, tally in zip(WINDOWS, series.windows, strict=True):
            yield (model, str(partition), window), series.classes, tally


def _judged(join: Join) -> Iterator[Metric]:
    judged = GaugeMetricFamily(
        "streamgauge_judged_predictions",
        "Predictions by the class that their label expected and the class predicted.",
        labels=(*SERIES, "expected", "predicted"),
    )
    predictions = GaugeMetricFamily("streamgauge_predictions", "Predictions, judged or not.", labels=SERIES)
    delay_sum = GaugeMetricFamily(
        "streamgauge_label_delay_seconds_sum", "From judged predictions to their labels.", labels=SERIES
    )
    delay_count = GaugeMetricFamily("streamgauge_label_delay_seconds_count", "Judged predictions.", labels=SERIES)
    samples: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for key, classes, tally in _tallies(join):
        matrix = {(expected, predicted): 0 for expected in sorted(classes) for predicted in sorted(classes)}
        delay = 0
        for (expected, predicted, _bin), (n, _confidence, _brier, delay_units) in tally.cells.items():
            matrix[expected, predicted] += n
            delay += delay_units
        for cell, n in matrix.items():
            judged.add_metric((*key, *cell), n)
        predictions.add_metric(key, tally.predictions)
        delay_sum.add_metric(key, delay / DELAY_UNITS)
        delay_count.add_metric(key, sum(matrix.values()))
        of_all = samples[key[0], key[2]]
        of_all[0] += sum(n for (expected, predicted), n in matrix.items() if expected == predicted)
        of_all[1] += sum(matrix.values())
    yield from (judged, predictions, delay_sum, delay_count)
    accuracy = GaugeMetricFamily(
        "ml_model_accuracy", "Share of this listener's judged predictions that are right.", labels=("model", "window")
    )
    for model_and_window, (correct, n) in samples.items():
        if n:
            accuracy.add_metric(model_and_window, correct / n)
    yield accuracy


def _calibration(join: Join) -> Iterator[Metric]:
    """Bins are named by their lower edge."""
    labels = (*SERIES, "bin")
    n_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_predictions", "Judged predictions by confidence.", labels=labels
    )
    confidence_of = GaugeMetricFamily("streamgauge_calibration_bin_confidence_sum", "Their confidences.", labels=labels)
    correct_of = GaugeMetricFamily(
        "streamgauge_calibration_bin_correct", "Those of them that are right.", labels=labels
    )
    brier_of = GaugeMetricFamily(
        "streamgauge_brier_sum", "Squared distance of scores and truth, of judged predictions.", labels=SERIES
    )
    for key, _classes, tally in _tallies(join):
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
