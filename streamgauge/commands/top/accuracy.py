"""How right the models are, by what listeners show. Pure.

Numbers of all labels are parts of a sum, one a results partition; those of the audit each listener has whole. So of
several listeners the larger number counts, as in the recording rules: copies of one shard are equal, but for who is
behind.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from feedback_listener.confidence_sequence import Interval
from feedback_listener.moment import Share, models_of, sequence, shares
from feedback_listener.reconcile import Scraped
from feedback_listener.recount_records import Values, series_of

WINDOW = "all"
RECENT = "1h"


class Accuracy(NamedTuple):
    """Of one model."""

    model: str
    labels: Share
    """Of everything that has a label, whoever chose what to label."""
    recent: Share
    """Of these, of the last hour's predictions."""
    audit: Share
    """Of what chance has chosen, and has a label."""
    matured: Share
    """Of these, those of minutes that wait for no more labels."""
    chosen: int
    """How many predictions of such minutes there are, with a label or without."""
    sequence: Interval | None
    """Of all that are in such minutes. It holds however often one looks; None before one of them has a label."""


def accuracies(listeners: Iterable[Scraped]) -> list[Accuracy]:
    """Of each model that has predictions, the one with the most of the last hour first."""
    numbers = together(listeners)
    busy: Counter[str] = Counter()
    for (name, labels), n in numbers.items():
        of = dict(labels)
        if name == "streamgauge_predictions" and of["window"] == RECENT:
            busy[of["model"]] += int(n)
    return [_accuracy(numbers, model) for model in sorted(models_of(numbers), key=lambda model: -busy[model])]


def _accuracy(numbers: Values, model: str) -> Accuracy:
    right, judged, chosen = (
        int(numbers.get(series_of(f"streamgauge_audit_sequence_{name}", model=model), 0))
        for name in ("correct", "judged", "predictions")
    )
    every, recent = (shares(numbers, model, window) for window in (WINDOW, RECENT))
    matured = Share(right, judged)
    return Accuracy(model, every["labels"], recent["labels"], every["audit"], matured, chosen, sequence(numbers, model))


def together(listeners: Iterable[Scraped]) -> Values:
    """One listener's numbers, as if it read all that these read."""
    found: Values = {}
    for scraped in listeners:
        for series, n in scraped.numbers.items():
            found[series] = max(n, found.get(series, n))
    return found


def unread(listeners: Iterable[Scraped], results: str, partitions: int) -> Collection[int]:
    """The partitions of the results topic that none of them reads."""
    read = {tp.partition for scraped in listeners for tp in scraped.positions if tp.topic == results}
    return sorted(set(range(partitions)) - read)
