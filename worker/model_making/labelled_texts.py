"""Labelled texts, and how a model does on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from streamgauge.errors import ConfigurationError
from streamgauge.labels import meaning, refusal
from worker.model.reference_profile import ReferenceProfile, accuracy_by_length, profile_of
from worker.model.session import OnnxModel


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, each one's label as people write it, and what the user says of these labels."""

    name: str
    """Where they come from, for messages."""
    texts: list[str]
    labels: list[str]
    label_map: Mapping[str, str] = field(default_factory=dict)

    def judged_by(self, classes: tuple[str, ...]) -> "LabelledTexts":
        """Those with a class of this model, which their label is then. Raises ConfigurationError at labels of none."""
        counts = Counter(self.labels)
        fit = meaning(counts, [classes], self.label_map)
        if fit.misfits:
            raise ConfigurationError(refusal(self.name, counts, fit.misfits, [classes]))
        named = [(text, fit.of[label]) for text, label in zip(self.texts, self.labels, strict=True)]
        kept = [(text, label) for text, label in named if label is not None and label in classes]
        if not kept:
            raise ConfigurationError(f"{self.name}: no label is left of {len(self.labels)}")
        return LabelledTexts(self.name, [text for text, _ in kept], [label for _, label in kept])


def profile_on(model: OnnxModel, data: LabelledTexts) -> ReferenceProfile:
    """The model's profile where inputs, scores and accuracy are all of these texts; their labels are its classes."""
    rows = [ids for ids, _truncated in model.encode(data.texts)]
    scores = np.concatenate([model.score([ids]) for ids in rows])
    right = np.array([model.labels.index(label) for label in data.labels]) == scores.argmax(axis=1)
    unknown_id = model.tokenizer.token_to_id("[UNK]")
    return profile_of(rows, unknown_id, scores, model.labels, accuracy_by_length(right, rows))
