"""What two other libraries answer: `ville` for confidence sequences, `nannyml` for CBPE. Recorded in oracles.json.

nannyml needs a Python below 3.13 and much that the project has no use for. So the libraries are asked by hand, in an
environment of their own, and the gate compares with what they said:

    python3.11 -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install ville==0.1.0 nannyml==0.13.1 statsmodels==0.15.0
    NML_DISABLE_USAGE_LOGGING=1 ENVIRONMENT/bin/python -m tests.statistics.oracles

The first is `BernoulliCS(alpha, prior=(1, 1), intersect=False)`: the same mixture. With `intersect` it would serve the
intersection of all intervals so far, which is no function of the counts. The second is what nannyml's
`estimate_accuracy` makes of probabilities that are calibrated already: as they are, or by bin.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ANSWERS = Path(__file__).with_name("oracles.json")
BINS = 10
TEXTS = 300
COUNTS = (
    (0, 1),
    (1, 1),
    (1, 2),
    (3, 20),
    (20, 20),
    (88, 100),
    (430, 500),
    (0, 1000),
    (17_600, 20_000),
    (199_999, 200_000),
)
ALPHAS = (0.05, 0.05 / 106)


def sequences() -> list[dict[str, Any]]:
    """Intervals by right, n and alpha."""
    from ville import BernoulliCS

    found = []
    for right, n in COUNTS:
        for alpha in ALPHAS:
            sequence = BernoulliCS(alpha, prior=(1, 1), intersect=False)
            sequence.fit(np.arange(n) < right)
            found.append(
                {"right": right, "n": n, "alpha": alpha, "low": sequence.lower_[-1], "high": sequence.upper_[-1]}
            )
    return found


def estimates() -> dict[str, Any]:
    """Made-up predictions, and their estimated accuracy: from confidences, and from the accuracies of their bins."""
    from nannyml.performance_estimation.confidence_based.metrics import estimate_accuracy

    dice = np.random.default_rng(1)
    positive = dice.beta(0.5, 0.4, TEXTS).round(4)
    predicted = positive >= 0.5
    confidence = np.where(predicted, positive, 1 - positive).round(4)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    judged = [0, 0, 0, 0, 0, 60, 70, 80, 90, 400]
    right = [0, 0, 0, 0, 0, 33, 44, 61, 80, 391]
    accuracy = np.array([good / n if n else 0.0 for good, n in zip(right, judged, strict=True)])[bins]
    return {
        "confidences": confidence.tolist(),
        "judged": judged,
        "right": right,
        "by_confidence": float(estimate_accuracy(predicted, positive)),
        "by_bin": float(estimate_accuracy(predicted, np.where(predicted, accuracy, 1 - accuracy))),
    }


def main() -> None:
    """Ask, and write what they say."""
    versions = {name: version(name) for name in ("ville", "nannyml")}
    answers = {"versions": versions, "sequences": sequences(), "estimates": estimates()}
    ANSWERS.write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
