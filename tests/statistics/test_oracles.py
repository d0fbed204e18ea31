"""Against what other libraries answered; `oracles.py` says how they were asked."""

import json

import pytest

from feedback_listener.confidence_sequence import confidence_sequence
from feedback_listener.tally import BINS, confidence_bin
from feedback_listener.unlabelled import BinSums, estimated_accuracy
from tests.statistics.oracles import ANSWERS

RECORDED = json.loads(ANSWERS.read_text())
PRECISE = 1e-9


def test_ville_has_the_same_intervals() -> None:
    """BernoulliCS with a uniform prior."""
    for asked in RECORDED["sequences"]:
        interval = confidence_sequence(asked["right"], asked["n"], asked["alpha"])
        assert interval == pytest.approx((asked["low"], asked["high"]), abs=PRECISE)


def test_nannyml_has_the_same_estimates() -> None:
    """CBPE, from calibrated confidences as they are, and from the accuracies of their bins."""
    asked = RECORDED["estimates"]
    bins = [BinSums(0, 0.0, 0, 0)] * BINS
    for confidence in asked["confidences"]:
        number = confidence_bin(confidence)
        predictions, total, *_nobody = bins[number]
        bins[number] = BinSums(predictions + 1, total + confidence, 0, 0)
    assert estimated_accuracy(bins) == pytest.approx(asked["by_confidence"], abs=PRECISE)
    labelled = [
        sums._replace(judged=judged, right=right)
        for sums, judged, right in zip(bins, asked["judged"], asked["right"], strict=True)
    ]
    assert estimated_accuracy(labelled) == pytest.approx(asked["by_bin"], abs=PRECISE)
