"""Which models and classes are exported by name, so that a scrape is bounded whatever the topics hold.

A user's model may have any number of classes, and anybody who may write to the topics can make up models and classes.
The rule looks at one results partition alone, over everything retained. So it follows from the retained records, it is
the same in all windows, and no number of shards changes it. Two copies agree as soon as both have read the same; while
one is behind, names at the boundary may differ, and the rules' maximum over copies counts them twice.

- Of the models, the MAX_MODELS with the most predictions are named; the others are OTHER together.
- Of the classes of named models, those that stand in the most judged predictions are named, expected or predicted: as
  many as leave at most MAX_CELLS cells in the confusion matrices. The others of a model are OTHER together.
- A name that takes more than MAX_NAME_BYTES of a scrape, where some characters are escaped, is never exported. Nor is
  one that is OTHER or ANOTHER itself.

Equals go by their names. Each prediction counts in one place. One that is wrong, and whose two classes are both OTHER,
counts as predicted ANOTHER: the diagonal of a matrix holds what is right, and nothing else.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from feedback_listener.decoding import original
from feedback_listener.tally import Tally

MAX_MODELS = 5
MAX_CELLS = 200
"""Of all models of a partition, the diagonals whole."""
MAX_NAME_BYTES = 96
OTHER = "(other)"
"""In brackets, so that hardly a class has this name."""
ANOTHER = "(another)"

Pair = tuple[str, str, str]
"""A model, an expected class and a predicted class."""


class Names(NamedTuple):
    """Of one results partition."""

    models: Collection[str]
    classes: Collection[tuple[str, str]]
    """With their models."""

    def model(self, model: str) -> str:
        """What it is exported as."""
        return model if model in self.models else OTHER

    def pair(self, pair: Pair) -> Pair:
        """What it is exported as."""
        model, expected, predicted = pair
        if (model, expected) not in self.classes:
            if (model, predicted) not in self.classes:
                return self.model(model), OTHER, OTHER if expected == predicted else ANOTHER
            expected = OTHER
        elif (model, predicted) not in self.classes:
            predicted = OTHER
        return model, expected, predicted


def names(tallies: Mapping[str, Tally]) -> Names:
    """The names that are exported of a partition with these sums by model over everything retained."""
    short = (model for model in tallies if _can_be_exported(model))
    models = sorted(short, key=lambda model: (-tallies[model].predictions, model))[:MAX_MODELS]
    judged: Counter[tuple[str, str]] = Counter()
    pairs: set[Pair] = set()
    for model, tally in tallies.items():
        for (expected, predicted, _bin), (n, *_sums) in tally.cells.items():
            pair = model, original(expected), original(predicted)
            pairs.add(pair)
            for name in pair[1:]:
                judged[model, name] += n
                pairs.add((model, name, name))
    named = [(model, name) for model, name in judged if model in models and _can_be_exported(name)]
    named = sorted(named, key=lambda item: (-judged[item], *item))[:MAX_CELLS]
    widest = Names(models, set(named))
    pairs = {widest.pair(pair) for pair in pairs}

    def cells(most: int) -> int:
        chosen = Names(models, set(named[:most]))
        return len({chosen.pair(pair) for pair in pairs})

    # One name more never makes fewer cells.
    most = bisect_right(range(len(named) + 1), MAX_CELLS, key=cells) - 1
    return Names(models, set(named[: max(0, most)]))


def _can_be_exported(name: str) -> bool:
    escaped = sum(map(name.count, '\\"\n'))
    return name not in {OTHER, ANOTHER} and len(name.encode()) + escaped <= MAX_NAME_BYTES
