"""What the services' own numbers show of labels, models and clocks."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from feedback_listener.join import WINDOWS, Age
from feedback_listener.tally import LabelOutcome
from streamgauge.commands.doctor.checks import Found, check
from streamgauge.commands.doctor.picture import NotSeen, Picture, Prometheus, Sample

DAY = WINDOWS[2]
"""The window of 24 hours."""
MANY_PREDICTIONS = 100
MANY_LABELS = 20
"""From so many on it is no accident."""
STRANGE_SHARE = 0.1
"""Of labels that are no class."""
UNMATCHED_SHARE = 0.5
SKEW_LIMIT_S = 10.0
"""Windows are whole minutes, and answers tell the time in whole seconds."""
MODEL_INFO = "streamgauge_model_info"


def _listeners(picture: Picture) -> list[tuple[Sample, ...]]:
    """What listeners show that show their numbers. Raises NotSeen."""
    ready = [samples for samples in picture.of("listener") if _total([samples], "streamgauge_listener_ready")]
    if not ready:
        raise NotSeen("no listener that answers is ready")
    return ready


def _total(scrapes: Sequence[Sequence[Sample]], name: str, **labels: str) -> float:
    """The sum over all series: of copies the maximum, as the recording rules take it."""
    series: dict[frozenset[tuple[str, str]], float] = defaultdict(float)
    for samples in scrapes:
        for sample in samples:
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items()):
                key = frozenset(sample.labels.items())
                series[key] = max(series[key], sample.value)
    return sum(series.values())


@check(
    "no-labels",
    why="The accuracy is unknown, and stays so.",
    source="https://github.com/NannyML/nannyml/pull/306",
)
def no_labels(picture: Picture) -> Iterator[Found]:
    """Texts are scored, and nobody sends labels."""
    scrapes = _listeners(picture)
    predictions = _total(scrapes, "streamgauge_predictions", window=DAY)
    if predictions >= MANY_PREDICTIONS and not _total(scrapes, "streamgauge_labels"):
        yield Found(
            f"{predictions:g} predictions of the last {DAY}, and no label at all",
            "streamgauge audit, and label some; or: streamgauge feedback --file FILE",
        )


@check(
    "labels-of-no-class",
    why="Such labels judge nothing. What is shown is the accuracy of the rest.",
    source="https://github.com/pycaret/pycaret/issues/1042",
)
def labels_of_no_class(picture: Picture) -> Iterator[Found]:
    """Labels name something that is no class of the model."""
    scrapes = _listeners(picture)
    strange = _total(scrapes, "streamgauge_prediction_labels", window=DAY, outcome=LabelOutcome.UNKNOWN_CLASS.value)
    judging = _total(scrapes, "streamgauge_judged_predictions", window=DAY)
    if strange + judging >= MANY_LABELS and strange > STRANGE_SHARE * (strange + judging):
        yield Found(
            f"{strange:g} labels of predictions of the last {DAY} name no class of the model, {judging:g} do",
            "send the classes that results carry: streamgauge feedback --file FILE --label-map 1=POSITIVE,0=NEGATIVE",
        )


@check(
    "labels-unmatched",
    why="A label finds its prediction by the id alone; with other ids nothing is ever judged.",
    source="https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-model-quality-merge.html",
)
def labels_unmatched(picture: Picture) -> Iterator[Found]:
    """Labels come with ids that no result has."""
    scrapes = _listeners(picture)
    read = {
        int(sample.labels["partition"])
        for samples in scrapes
        for sample in samples
        if sample.name == "streamgauge_matched_labels"
    }
    if len(read) < picture.topic(picture.setup.topics.results).partitions:
        raise NotSeen("the listeners that answer do not read all results; name each with --listener")
    for age, most in ((Age.OLD, UNMATCHED_SHARE), (Age.RECENT, 1 - 1 / MANY_LABELS)):
        labels = _total(scrapes, "streamgauge_labels", age=age.value)
        unmatched = labels - _total(scrapes, "streamgauge_matched_labels", age=age.value)
        if labels >= MANY_LABELS and unmatched > most * labels:
            yield Found(
                f"{unmatched:g} of {labels:g} {age.value} labels have an id that no result has",
                "send with a label the id that `streamgauge produce` printed, or that stands in the result: "
                "streamgauge tail results",
            )


@check(
    "clock-skew",
    why="Windows, lag, latency and the age of labels are differences between clocks.",
    source="https://github.com/apache/kafka/pull/19137",
)
def clock_skew(picture: Picture) -> Iterator[Found]:
    """A clock of the brokers, of a service or of Prometheus differs from this machine's."""
    skews: dict[str, float] = {answer.url: answer.skew_s for answer in picture.answers if answer.skew_s is not None}
    if isinstance(picture.cluster.ahead_ms, int):
        skews["the brokers"] = picture.cluster.ahead_ms / 1000
    if isinstance(picture.prometheus, Prometheus) and picture.prometheus.skew_s is not None:
        skews["Prometheus"] = picture.prometheus.skew_s
    if not skews:
        raise NotSeen("nobody has told the time")
    wrong = {who: skew_s for who, skew_s in skews.items() if abs(skew_s) > SKEW_LIMIT_S}
    if wrong:
        told = (f"{who} {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}" for who, skew_s in wrong.items())
        yield Found(
            f"beside this machine's clock are {', '.join(told)}",
            "systemctl enable --now chronyd, or another NTP client, on each machine",
        )


@check(
    "models-differ",
    why="The same text may be given two answers, by which replica reads it.",
    source="https://github.com/SeldonIO/seldon-core/issues/267",
)
def models_differ(picture: Picture) -> Iterator[Found]:
    """Workers of one group score with different models."""
    if isinstance(picture.prometheus, Prometheus) and picture.prometheus.models:
        digests = set(picture.prometheus.models)
    else:
        digests = {
            sample.labels["digest"]
            for samples in picture.of("worker")
            for sample in samples
            if sample.name == MODEL_INFO
        }
    if len(digests) > 1:
        yield Found(
            f"workers score with {len(digests)} models: {', '.join(sorted(digests))}",
            "finish the roll-out: give all workers one STREAMGAUGE_WORKER_MODEL_DIR, and restart the others",
        )


CHECKS = (no_labels, labels_of_no_class, labels_unmatched, clock_skew, models_differ)
