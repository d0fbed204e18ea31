"""Records of the topics as typed values: what the join works on and the store keeps."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Stream(StrEnum):
    """The topics that are read. Of the results a listener reads its shard, of the others everything."""

    RESULTS = "results"
    FEEDBACK = "feedback"
    AUDIT = "audit"


class Refusal(StrEnum):
    """Why a record takes no part."""

    NULL_VALUE = "null_value"
    BROKEN_JSON = "broken_json"
    INVALID_FIELD = "invalid_field"
    UNREADABLE = "unreadable"
    """Its batch is broken, or unpacks to more than is ever unpacked."""
    CROWDED_ID = "crowded_id"
    """Its id has too many later records; see `join.py`."""


class Kind(NamedTuple):
    """What many predictions have in common: the model's name and version, its classes in the order of the scores."""

    model: str
    classes: tuple[str, ...]


class PredictionRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One record of the results or the audit topic. `kind` is a number by agreement with who made it."""

    id: str
    at_ms: int
    partition: int
    """Of the results topic; one of the audit topic as its complement, -1 for 0 and -2 for 1. Both are counted apart."""
    offset: int
    kind: int
    predicted: int
    """Index of the predicted class."""
    bin: int
    units: list[int]
    """Scores in PROBABILITY_UNITS, class by class."""

    @property
    def is_audited(self) -> bool:
        return self.partition < 0

    @property
    def refused_in(self) -> tuple[Stream, int]:
        """Stream and partition of the record."""
        return (Stream.AUDIT, ~self.partition) if self.is_audited else (Stream.RESULTS, self.partition)


class LabelRow(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One record of the feedback topic; labels are ordered as they judge."""

    at_ms: int
    partition: int
    offset: int
    id: str
    value: str
    source: str | None


RefusalKey = tuple[Stream, int, int, Refusal]
"""Of refused records: stream, partition, minute and reason."""


@dataclass
class RecordBatch:
    """What has been read and not applied yet."""

    predictions: list[PredictionRow] = field(default_factory=list)
    labels: list[LabelRow] = field(default_factory=list)
    refusals: Counter[RefusalKey] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.predictions) + len(self.labels)

    def since(self, predictions_ms: int, labels_ms: int) -> "RecordBatch":
        """Without predictions and labels from before these times."""
        return RecordBatch(
            [prediction for prediction in self.predictions if prediction.at_ms >= predictions_ms],
            [label for label in self.labels if label.at_ms >= labels_ms],
            self.refusals,
        )
