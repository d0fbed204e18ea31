"""What the charts of the page show: how right the model is, and how much flows, over time. Pure.

Wherever the numbers come from, they become a list of `Point`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from feedback_listener.moment import Share, shares
from feedback_listener.recount_records import Values, series_of
from streamgauge.commands.page.flow import BUCKET_S, KEPT_S, Flow, bucket_of

WINDOWS = ("5m", "1h", "24h", "all")


class Rate(NamedTuple):
    """A share of right predictions, with its interval, and from how many labels that is."""

    value: float
    low: float
    high: float
    n: int


class Accuracy(NamedTuple):
    """Of one model and window."""

    model: str
    audit: Rate | None = None
    """Of the predictions chosen by chance. None: no label."""
    every: Rate | None = None
    """Of all labels, whoever chose what to label."""


class Point(NamedTuple):
    """What was known at one time; None where nothing was."""

    at_s: float
    """Since the epoch."""
    accuracy: Accuracy | None = None
    texts_per_s: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    lag: float | None = None


def accuracies(numbers: Values) -> dict[str, Accuracy]:
    """By window, of the model that scores most now; from the series of all listeners, of copies the larger one."""
    model = _busiest(numbers)
    if model is None:
        return {}
    return {window: _accuracy(numbers, model, window) for window in WINDOWS}


def _busiest(numbers: Values) -> str | None:
    """By its predictions in the shortest window in which there are any."""
    for window in WINDOWS:
        counts: dict[str, float] = {}
        for (name, labels), n in numbers.items():
            of = dict(labels)
            if name == "streamgauge_predictions" and of["window"] == window:
                counts[of["model"]] = counts.get(of["model"], 0) + n
        if counts:
            return max(counts, key=lambda model: (counts[model], model))
    return None


def _accuracy(numbers: Values, model: str, window: str) -> Accuracy:
    found = shares(numbers, model, window)
    lasting = _sequence(numbers, model) if window == WINDOWS[-1] else None
    return Accuracy(model, lasting or _rate(found["audit"]), _rate(found["labels"]))


def _sequence(numbers: Values, model: str) -> Rate | None:
    """Of the confidence sequence, once a minute has matured: its interval may be looked at for ever."""
    names = ("accuracy_low", "accuracy_high", "sequence_correct", "sequence_judged")
    low, high, right, judged = (numbers.get(series_of(f"streamgauge_audit_{name}", model=model), 0) for name in names)
    return Rate(right / judged, low, high, round(judged)) if judged else None


def _rate(share: Share) -> Rate | None:
    interval = share.interval
    return Rate(share.right / share.judged, *interval, share.judged) if interval else None


class Samples:
    """What was asked for now and then: accuracies and lags, by the bucket of their time."""

    def __init__(self) -> None:
        self.accuracies: dict[int, Mapping[str, Accuracy]] = {}
        self.lags: dict[int, int] = {}

    def forget(self, now_s: float) -> None:
        """Drop what is older than KEPT_S."""
        for kept in (self.accuracies, self.lags):
            for begins_s in [begins_s for begins_s in kept if begins_s < now_s - KEPT_S]:
                del kept[begins_s]

    def points(self, flow: Flow, window: str, now_s: float) -> list[Point]:
        """One a bucket, from the first of which anything is known to the last that is over."""
        known = [*self.accuracies, *self.lags, *flow.buckets]
        points = []
        for begins_s in range(min(known, default=bucket_of(now_s)), bucket_of(now_s), BUCKET_S):
            bucket = flow.buckets.get(begins_s)
            points.append(
                Point(
                    begins_s,
                    self.accuracies.get(begins_s, {}).get(window),
                    bucket.texts_per_s if bucket else 0.0,
                    bucket.latency_s(0.5) if bucket else None,
                    bucket.latency_s(0.99) if bucket else None,
                    self.lags.get(begins_s),
                )
            )
        return points
