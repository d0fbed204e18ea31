"""The recording rules against scikit-learn and statsmodels, on random predictions and labels of three classes."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, brier_score_loss, precision_recall_fscore_support
from statsmodels.stats.proportion import proportion_confint

from tests.replica import Replica
from tests.rules.test_rules import RULES, needs_promtool, promtool
from tests.truth import DAY_MS, Labelled, Record, Scored

NOW_MS = 1_800_000_012_345
CLASSES = ("NEGATIVE", "NEUTRAL", "POSITIVE")
PREDICTIONS, LABELLED, AUDITED = 400, 300, 40


def scored(count: int) -> list[Scored]:
    dice = np.random.default_rng(1)
    found = []
    for offset, scores in enumerate(dice.dirichlet([0.6, 0.4, 0.9], count)):
        by_class = dict(zip(CLASSES, scores.tolist(), strict=True))
        found.append(Scored(str(offset), offset % 3, offset, NOW_MS - 9000, CLASSES[scores.argmax()], by_class))
    return found


def expected_rules(judged: list[Scored], truth: list[str], confidence: float) -> dict[str, float]:
    """What the rules must give, by the expression that asks for it; as others compute it. `confidence`: mean of all."""
    predicted = [prediction.label for prediction in judged]
    probabilities = np.array([[prediction.scores[name] for name in CLASSES] for prediction in judged])
    right = np.array([expected == label for expected, label in zip(truth, predicted, strict=True)])
    lower, upper = proportion_confint(right.sum(), len(right), alpha=0.05, method="wilson")
    audited = right[:AUDITED]
    audit_lower, audit_upper = proportion_confint(audited.sum(), AUDITED, alpha=0.05, method="wilson")
    baseline = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(truth), 1)), truth)
    bins = np.digitize(probabilities.max(axis=1), np.linspace(0.1, 0.9, 9))
    gaps = [abs((probabilities.max(axis=1) - right)[bins == number].sum()) for number in range(10)]
    found = {
        "accuracy:ratio": accuracy_score(truth, predicted),
        "accuracy_samples:sum": len(truth),
        "accuracy_wilson_lower:ratio": lower,
        "accuracy_wilson_upper:ratio": upper,
        "accuracy_majority_baseline:ratio": baseline.score(np.zeros((len(truth), 1)), truth),
        "brier:mean": brier_score_loss(truth, probabilities, labels=CLASSES, scale_by_half=False),
        "calibration_error:ratio": sum(gaps) / len(truth),
        "label_coverage:ratio": LABELLED / PREDICTIONS,
        "label_delay_seconds:mean": 4.0,
        "audit_samples:max": AUDITED,
        "audit_accuracy:ratio": audited.mean(),
        "audit_accuracy_wilson_lower:ratio": audit_lower,
        "audit_accuracy_wilson_upper:ratio": audit_upper,
        # No bin has labels enough to be calibrated by the audit.
        "estimated_accuracy:ratio": confidence,
    }
    rules = {f'streamgauge:{name}{{window="1h"}}': n for name, n in found.items()}
    scores = precision_recall_fscore_support(truth, predicted, labels=CLASSES)
    for name, by_class in zip(("precision", "recall", "f1"), scores[:3], strict=True):
        for label, n in zip(CLASSES, by_class, strict=True):
            rules[f'streamgauge:{name}:ratio{{window="1h", class="{label}"}}'] = n
    return rules


@needs_promtool
def test_the_rules_agree_with_scikit_learn_and_statsmodels(tmp_path: Path) -> None:
    """Accuracy of all labels and of the audit, their intervals, the estimate without labels, precision, recall, F1,
    baseline, Brier score and calibration error, to 1e-5.
    """
    dice = random.Random(2)
    predictions = scored(PREDICTIONS)
    judged = predictions[:LABELLED]
    truth = [dice.choices(CLASSES, [0.3, 0.1, 0.6])[0] if dice.random() < 0.5 else p.label for p in judged]
    labels = [
        Labelled(prediction.id, 0, offset, prediction.at_ms + 4000, label)
        for offset, (prediction, label) in enumerate(zip(judged, truth, strict=True))
    ]
    replica = Replica(tmp_path / "listener.sqlite", NOW_MS, 7 * DAY_MS)
    audited = [replace(prediction, is_audited=True) for prediction in predictions[:AUDITED]]
    records: list[Record] = [*predictions, *audited, *labels]
    confidence = sum(max(prediction.scores.values()) for prediction in predictions) / PREDICTIONS
    replica.apply(records, NOW_MS)
    series = [
        {"series": sample.name + json_labels(sample.labels), "values": repr(sample.value)}
        for metric in replica.registry.collect()
        for sample in metric.samples
    ]
    replica.store.close()
    questions = [
        {
            "expr": f"abs({expression} - {n!r}) < bool 1e-5",
            "eval_time": "0m",
            "exp_samples": [{"labels": json_labels({"model": "m@1", **_own_labels(expression)}), "value": 1}],
        }
        for expression, n in (
            (expression, float(n)) for expression, n in expected_rules(judged, truth, confidence).items()
        )
    ]
    assert len(questions) == 23
    test = {
        "rule_files": [str(RULES / "recording.yml"), str(RULES / "audit.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": questions}],
    }
    path = tmp_path / "arithmetic.yml"
    path.write_text(json.dumps(test))  # JSON is YAML
    promtool("test", "rules", path)


def json_labels(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def _own_labels(expression: str) -> dict[str, str]:
    pairs = expression.partition("{")[2].rstrip("}").split(", ")
    return {name: json.loads(value) for name, value in (pair.split("=") for pair in pairs)}
