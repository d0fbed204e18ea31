"""The generator of test input, which knows what must become of every record, and the check that it did.

The oracle is content and outcome per input offset, not counts: two wrongs that cancel out are found.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from streamgauge.events import Prediction, Reason, decode_prediction, last_header
from tests.echo import echo_probability

BAD = [
    (b"\xff\xfe not text", Reason.NOT_UTF8),
    (b'{"text": "a', Reason.BROKEN_JSON),
    (b"  ", Reason.EMPTY_TEXT),
    (b'{"id": "x"}', Reason.MISSING_TEXT),
]

DEFAULT_AUDIT_SHARE = 0.01
"""Of a worker that is told no other share, and no salt."""


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
    audit: list[tuple[str, int, int]] = field(default_factory=list)
    """What is wrong with the audit topic, or with the marks of those that are in it."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.out_of_order or self.audit)


def judge(
    inputs: Mapping[tuple[int, int], Input], outputs: Iterable[Any], audit_share: float = DEFAULT_AUDIT_SHARE
) -> Verdict:
    """Compare records that a read_committed reader saw, in the order read, with `inputs` by (partition, offset).

    `outputs` are those of the results, the dead letters and the audit.
    """
    verdict = Verdict()
    seen: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[tuple[str, int], int] = defaultdict(lambda: -1)
    audit = _Audit(audit_share, verdict.audit)
    for record in outputs:
        position, outcome = _outcome(record)
        audit.add(record, position)
        seen[position] += not is_of_audit(record)
        if position not in inputs or inputs[position].outcome != outcome or position[0] != record.partition:
            verdict.wrong.append(position)
        if position[1] <= last[record.topic, record.partition]:
            verdict.out_of_order.append((record.topic, *position))
        last[record.topic, record.partition] = position[1]
    verdict.lost = [position for position in inputs if not seen[position]]
    verdict.doubled = [position for position, count in seen.items() if count > 1]
    audit.end()
    return verdict


def is_of_audit(record: Any) -> bool:
    """Whether it stands in the audit topic."""
    return bool(record.topic.endswith(".audit"))


class _Audit:
    """Checks that each result which the hash of its id chooses is in the audit topic too, once, byte for byte, and no
    other. Adds to `wrong` what is not so; holds only what has not been seen in both topics yet.
    """

    def __init__(self, share: float, wrong: list[tuple[str, int, int]]) -> None:
        self._share, self._wrong = share, wrong
        self._alone: dict[tuple[bool, int, int], int] = {}

    def add(self, record: Any, position: tuple[int, int]) -> None:
        if last_header(record.headers, "__connect.errors.offset") is not None:
            return
        prediction, in_audit = decode_prediction(record.value), is_of_audit(record)
        if prediction.audit != self._expected(prediction):
            self._wrong.append(("wrongly marked", *position))
        if in_audit or prediction.audit is not None:
            content = hash((record.key, record.value, tuple(record.headers)))
            if (other := self._alone.pop((not in_audit, *position), None)) is None:
                if (in_audit, *position) in self._alone:
                    self._wrong.append(("doubled", *position))
                self._alone[in_audit, *position] = content
            elif other != content:
                self._wrong.append(("differs", *position))

    def _expected(self, prediction: Prediction) -> float | None:
        fraction = int(blake2b(prediction.id.encode(), digest_size=8).hexdigest(), 16) / 2**64
        return self._share if fraction < self._share else None

    def end(self) -> None:
        """Nothing more comes: what has been seen in one topic alone is wrong."""
        self._wrong.extend(("no result" if in_audit else "lost", p, offset) for in_audit, p, offset in self._alone)


def _outcome(record: Any) -> tuple[tuple[int, int], float | Reason]:
    """Source position and outcome of a result or a dead letter."""
    offset = last_header(record.headers, "__connect.errors.offset")
    if offset is None:
        prediction = decode_prediction(record.value)
        return (prediction.source.partition, prediction.source.offset), prediction.scores["POSITIVE"]
    partition = last_header(record.headers, "__connect.errors.partition") or b""
    reason = last_header(record.headers, "__connect.errors.exception.class.name") or b""
    return (int(partition), int(offset)), Reason(reason.decode())
