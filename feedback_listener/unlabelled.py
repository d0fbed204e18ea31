"""What can be said of predictions that nobody has labelled."""

from collections.abc import Iterable
from typing import NamedTuple

MIN_JUDGED = 50
"""Audited labels from which on a bin's own accuracy is believed; its standard error is 7 points at most then."""


class BinSums(NamedTuple):
    """Of the predictions in one bin of confidence; `tally.confidence_bin` says which bin is a prediction's."""

    predictions: int
    """With a label or without."""
    confidence_sum: float
    """Of these predictions, calibrated."""
    judged: int
    """Audited predictions with a label."""
    right: int
    """Of those that are judged."""


def estimated_accuracy(bins: Iterable[BinSums]) -> float | None:
    """The share of all predictions that are right, as far as their confidences tell; None without predictions.

    This is confidence-based performance estimation (CBPE; Kivimäki, Białek, Kuberski and Nurminen, arXiv
    2505.05295).
    A calibrated confidence is the probability of being right, so the estimate is the mean confidence. A bin with
    MIN_JUDGED audited labels is calibrated by these: its predictions count with the accuracy of the bin. All inputs are
    sums, so shards add up. It sees texts become harder. It cannot see concept drift, in which the same confidence
    means less than before: for that it stands beside the audit.
    """
    bins = list(bins)
    predictions = sum(sums.predictions for sums in bins)
    return sum(map(_expected_right, bins)) / predictions if predictions else None


def _expected_right(sums: BinSums) -> float:
    """How many of the bin's predictions are right."""
    if sums.judged >= MIN_JUDGED:
        return sums.predictions * sums.right / sums.judged
    return sums.confidence_sum
