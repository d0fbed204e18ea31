"""How far a model's confidence is from its accuracy, and the temperature that brings them together."""

import numpy as np

from infra.model.scoring import Floats, Integers, probabilities
from worker.model.reference_profile import CONFIDENCE_BINS

BOUNDS, PRECISION = (0.1, 10.0), 1e-4


def likelihood_loss(logits: Floats, labels: Integers, temperature: float) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    right = probabilities(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def calibration_error(scores: Floats, labels: Integers) -> float:
    """Expected calibration error: |accuracy - mean confidence| of each bin, weighed by its texts."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return float(
        sum(abs((right[bins == i] - confidence[bins == i]).sum()) for i in range(CONFIDENCE_BINS)) / len(labels)
    )


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """The temperature of the least likelihood loss: ternary search, as the loss is convex in its inverse."""
    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    while high - low > PRECISION:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if likelihood_loss(logits, labels, 1 / left) < likelihood_loss(logits, labels, 1 / right):
            high = right
        else:
            low = left
    return round(2 / (low + high), 3)
