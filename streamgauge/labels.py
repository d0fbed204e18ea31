"""Labels as people write them → classes as the model names them; pure.

The classes that results carry decide. Nothing is known here of any language or model.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from streamgauge.errors import ConfigurationError

Classes = tuple[str, ...]
"""Of one model, in the order of its output."""
SHOWN_LABELS = 5
SHOWN_CHARS = 40


class Meaning(NamedTuple):
    """What becomes of each label: its class, or None where it is left out. `misfits` fit no class."""

    of: Mapping[str, str | None]
    misfits: Sequence[str]


def read_map(given: str | None) -> dict[str, str]:
    """What the user says of labels: `1=POSITIVE,0=NEGATIVE`, or a file with such a pair a line.

    An empty class leaves the label out. Raises ConfigurationError.
    """
    if not given:
        return {}
    pairs, where = given.split(","), "--label-map"
    if "=" not in given or os.path.isfile(given):  # not Path: that raises for a text that is no path
        where = f"--label-map {given}"
        try:
            pairs = Path(given).read_text("utf-8-sig").splitlines()
        except (OSError, ValueError):
            raise ConfigurationError(f"{where}: neither pairs such as 1=POSITIVE,0=NEGATIVE nor a file") from None
    meant: dict[str, str] = {}
    for pair in filter(str.strip, pairs):
        label, is_pair, name = (part.strip() for part in pair.partition("="))
        if not label or not is_pair or label in meant:
            raise ConfigurationError(f"{where}: {pair.strip()}: not LABEL=CLASS, or the label is there twice")
        meant[label] = name
    return meant


def meaning(labels: Iterable[str], models: Sequence[Classes], meant: Mapping[str, str]) -> Meaning:
    """Find each label's class. `models`: the classes of each model, as far as known; empty: labels stay as they are.

    In this order: what the user has said; a class of that name; the only class that differs in upper and lower case
    alone, or as 1.0 from 1; the class of that number, where the labels are all the numbers of one model's classes.
    A label that the user maps to itself is sent whatever the classes are. Raises ConfigurationError when the user
    names a class that there is not.
    """
    wanted = list(labels)
    classes = list(dict.fromkeys(name for model in models for name in model))
    said = {label: found for label in wanted if (found := _nearest(label, meant)) is not None}
    numbered = {} if meant or len(models) != 1 else _numbered(wanted, models[0])
    of: dict[str, str | None] = {}
    misfits = []
    for label in wanted:
        name = meant[said[label]] if label in said else label
        fitting = _nearest(name, classes) if models else name
        if label in said and name in {"", label}:
            of[label] = name or None
        elif fitting is not None:
            of[label] = fitting
        elif label in said:
            raise ConfigurationError(f"--label-map: {label}={name}: the model's classes are {', '.join(classes)}")
        elif label in numbered:
            of[label] = numbered[label]
        else:
            misfits.append(label)
    return Meaning(of, misfits)


def refusal(where: str, labels: Mapping[str, int], misfits: Sequence[str], models: Sequence[Classes]) -> str:
    """What to tell of labels that fit no class; `labels` counts each."""
    named = [f"{label[:SHOWN_CHARS]} ({labels[label]})" for label in misfits[:SHOWN_LABELS]]
    more = [f"{len(misfits) - SHOWN_LABELS} more"] if len(misfits) > SHOWN_LABELS else []
    classes = " or ".join(", ".join(model) for model in models)
    example = ",".join(f"{label[:SHOWN_CHARS]}=CLASS" for label in misfits[:SHOWN_LABELS])
    return (
        f"{where}: {sum(labels[label] for label in misfits)} of {sum(labels.values())} labels fit no class of the "
        f"model ({classes}): {', '.join(named + more)}; nothing was done\n"
        f"say what they mean: --label-map {example} ("
        "LABEL= leaves it out, LABEL=LABEL sends it all the same)"
    )


def _nearest(label: str, names: Iterable[str]) -> str | None:
    """The name that is this label, else the only one that is nearly this."""
    names = list(names)
    if label in names:
        return label
    near = [name for name in names if _plain(name) == _plain(label)]
    return near[0] if len(near) == 1 else None


def _plain(label: str) -> str:
    """Without the differences that do not count: pandas writes 1 as 1.0 where a value is missing."""
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", label.strip().casefold())


def _numbered(labels: Sequence[str], classes: Classes) -> dict[str, str]:
    """By the number of the class, 1 or LABEL_1, as Hugging Face has it; all classes must be there, and nothing else."""
    by_number = {str(number): name for number, name in enumerate(classes)}
    numbers = {label: _plain(label).removeprefix("label_") for label in labels}
    if set(numbers.values()) != set(by_number):
        return {}
    return {label: by_number[number] for label, number in numbers.items()}
