"""The default model on real texts whose truth is known, and people who would rather label what is wrong."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedback_listener.confidence_sequence import confidence_sequence
from producer.corpus import Sample, bundled
from tests.statistics.looks import wilson
from worker.model.session import OnnxModel
from worker.settings import WorkerSettings

PREDICTIONS = 20_000
"""Of one repetition, drawn from the texts."""
AUDIT_SHARE = 0.01
VOLUNTEER_SHARES = (0.01, 0.05)
"""Of the right and of the wrong predictions that get a label from volunteers."""


class Volunteered(NamedTuple):
    """Over all repetitions. Shares, 0 to 1."""

    truth: float
    """The model's accuracy on the texts."""
    audited: float
    """The mean of the audit's accuracy; without bias it is the truth."""
    volunteered: float
    """The mean accuracy of what volunteers labelled."""
    wilson_coverage: float
    """How often the audit's 95 % interval for one look holds the truth."""
    sequence_coverage: float
    """How often its 95 % interval for ever does, looked at once."""


def samples(path: Path | None) -> list[Sample]:
    """Labelled texts: of a .tsv file with the columns text and label, or those that come along."""
    if path is None:
        found = bundled()
    else:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = [Sample(row["text"], row["label"] or None) for row in rows]
    return [sample for sample in found if sample.label]


def is_right(texts: Sequence[Sample]) -> NDArray[np.bool_]:
    """Whether the default model gives each text its label."""
    model = OnnxModel.load(WorkerSettings().model_dir, max_tokens=512)
    encoded = [ids for ids, _truncated in model.encode([sample.text for sample in texts])]
    found = np.zeros(len(texts), bool)
    # Of like lengths, so that little is padded.
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
    for start in range(0, len(order), 16):
        batch = order[start : start + 16]
        predicted = model.score([encoded[index] for index in batch]).argmax(axis=1)
        found[batch] = [model.labels[of] == texts[index].label for index, of in zip(batch, predicted, strict=True)]
    return found


def volunteer(right: NDArray[np.bool_], repetitions: int, *, is_uniform: bool = True) -> Volunteered:
    """Draw predictions, audit a share of them, let volunteers label others. `is_uniform` False is a wrong variant."""
    dice = np.random.default_rng(1)
    truth = float(right.mean())
    audits, volunteered, inside = [], [], []
    volunteers_label = np.where(right, *VOLUNTEER_SHARES)
    audit_share = np.full(len(right), AUDIT_SHARE) if is_uniform else volunteers_label
    for _repetition in range(repetitions):
        drawn = dice.integers(len(right), size=PREDICTIONS)
        audited = right[drawn[dice.random(PREDICTIONS) < audit_share[drawn]]]
        labelled = right[drawn[dice.random(PREDICTIONS) < volunteers_label[drawn]]]
        audits.append(audited.mean())
        volunteered.append(labelled.mean())
        counts = int(audited.sum()), len(audited)
        inside.append([of.low <= truth <= of.high for of in (wilson(*counts), confidence_sequence(*counts, 0.05))])
    coverage = np.mean(inside, axis=0)
    return Volunteered(
        truth, float(np.mean(audits)), float(np.mean(volunteered)), float(coverage[0]), float(coverage[1])
    )
