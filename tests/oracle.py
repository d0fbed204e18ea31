"""The generator of test input, which knows what must become of every record, and the check that it did.

The oracle is content and outcome per input offset, not counts: two wrongs that cancel out are found.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamgauge.events import Reason, decode_prediction, last_header
from tests.echo import echo_probability

BAD = [
    (b"\xff\xfe not text", Reason.NOT_UTF8),
    (b'{"text": "a', Reason.BROKEN_JSON),
    (b"  ", Reason.EMPTY_TEXT),
    (b'{"id": "x"}', Reason.MISSING_TEXT),
]


@dataclass(frozen=True, slots=True)
class Input:
    """One record and its one right outcome: the probability of POSITIVE, or the reason of a dead letter."""

    value: bytes
    outcome: float | Reason


def generate(count: int, seed: int) -> list[Input]:
    """Distinct texts of mixed lengths, a twentieth of them bad."""
    dice = random.Random(seed)
    inputs = []
    for number in range(count):
        if dice.random() < 0.05:
            value, reason = dice.choice(BAD)
            inputs.append(Input(value + b" %d" % number if reason is Reason.NOT_UTF8 else value, reason))
        else:
            text = f"text {seed}-{number} {'word ' * dice.choice([1, 1, 2, 5, 40])}"
            inputs.append(Input(text.encode(), echo_probability(text)))
    return inputs


@dataclass
class Verdict:
    """What a run did wrong; falsy lists everywhere mean nothing."""

    lost: list[tuple[int, int]] = field(default_factory=list)
    doubled: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[tuple[int, int]] = field(default_factory=list)
    out_of_order: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.out_of_order)


def judge(inputs: Mapping[tuple[int, int], Input], outputs: Iterable[Any]) -> Verdict:
    """Compare records that a read_committed reader saw, in the order read, with `inputs` by (partition, offset)."""
    verdict = Verdict()
    seen: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[tuple[str, int], int] = defaultdict(lambda: -1)
    for record in outputs:
        position, outcome = _outcome(record)
        seen[position] += 1
        if position not in inputs or inputs[position].outcome != outcome or position[0] != record.partition:
            verdict.wrong.append(position)
        if position[1] <= last[record.topic, record.partition]:
            verdict.out_of_order.append((record.topic, *position))
        last[record.topic, record.partition] = position[1]
    verdict.lost = [position for position in inputs if not seen[position]]
    verdict.doubled = [position for position, count in seen.items() if count > 1]
    return verdict


def _outcome(record: Any) -> tuple[tuple[int, int], float | Reason]:
    """Source position and outcome of a result or a dead letter."""
    offset = last_header(record.headers, "__connect.errors.offset")
    if offset is None:
        prediction = decode_prediction(record.value)
        return (prediction.source.partition, prediction.source.offset), prediction.scores["POSITIVE"]
    partition = last_header(record.headers, "__connect.errors.partition") or b""
    reason = last_header(record.headers, "__connect.errors.exception.class.name") or b""
    return (int(partition), int(offset)), Reason(reason.decode())
