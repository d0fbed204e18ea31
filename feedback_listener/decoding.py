"""The listener's edge: records in, typed values or the reason of a refusal out.

Of a result only what the join needs is decoded, which is two to three times as fast as the whole event.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, TypeVar

import msgspec

from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import Kind, LabelRow, PredictionRow, RecordBatch, Refusal, Stream
from feedback_listener.tally import MINUTE_MS, PROBABILITY_UNITS, confidence_bin
from streamgauge.events import NO_EVENT, Feedback, decode_feedback
from streamgauge.unpacking import Unread

T = TypeVar("T")

# Softmax in float32 may end a rounding error above 1; the upper bound keeps every sum finite.
Probability = Annotated[float, msgspec.Meta(ge=0, le=1.001)]


class ScoredBy(msgspec.Struct, frozen=True, gc=False):
    """The part of `events.ModelRef` that tells model versions apart in metrics."""

    name: str
    version: str


class ScoredRecord(msgspec.Struct, frozen=True, gc=False):
    """The part of `events.Prediction` that is judged."""

    id: str
    label: str
    scores: dict[str, Probability]
    model: ScoredBy


class ConsumedRecord(Protocol):
    """What is needed of a consumed record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


class Kinds(list[Kind]):
    """All kinds of predictions met so far; a kind's number is its index."""

    def __init__(self, known: Iterable[Kind] = ()) -> None:
        super().__init__(known)
        self._numbers: dict[tuple[str, str, tuple[str, ...]], int] = {}
        self._known = {kind: number for number, kind in enumerate(self)}

    def number(self, model: ScoredBy, classes: tuple[str, ...]) -> int:
        """The number of a model version with these classes, in this order."""
        key = model.name, model.version, classes
        found = self._numbers.get(key)
        if found is None:
            kind = Kind(storable(f"{model.name}@{model.version}"), tuple(map(storable, classes)))
            found = self._numbers[key] = self._known.setdefault(kind, len(self))
            if found == len(self):
                self.append(kind)
        return found


_decode_scored = msgspec.json.Decoder(ScoredRecord).decode


def decode_records(
    records: Iterable[tuple[Stream, ConsumedRecord]], kinds: Kinds, batch: RecordBatch, warnings: MinuteLog
) -> None:
    """Decode records into `batch`; what cannot be read is counted by reason, and warned of."""
    value: ScoredRecord | Feedback | Refusal
    feedback, audit = Stream.FEEDBACK, Stream.AUDIT  # Python 3.11 takes its time to find an enum's member
    for stream, record in records:
        if stream is not feedback:
            value = decode_result(record.value)
            if isinstance(value, ScoredRecord):
                partition = ~record.partition if stream is audit else record.partition
                batch.predictions.append(_prediction(record, partition, value, kinds))
                continue
        else:
            value = decode_label(record.value)
            if isinstance(value, Feedback):
                batch.labels.append(_label(record, value))
                continue
        batch.refusals[stream, record.partition, record.timestamp // MINUTE_MS, value] += 1
        warnings.warn("record.refused", 1, record, stream=stream, reason=value)


def decode_result(value: bytes | None) -> ScoredRecord | Refusal:
    """A record of the results or the audit topic; its label must be one of the scored classes."""
    scored = _decoded(_decode_scored, value)
    if isinstance(scored, ScoredRecord) and scored.label not in scored.scores:
        return Refusal.INVALID_FIELD
    return scored


def decode_label(value: bytes | None) -> Feedback | Refusal:
    """A record of the feedback topic."""
    return _decoded(decode_feedback, value)


def storable(name: str) -> str:
    """The same name without NUL, where SQLite's JSON would end it; different names stay different."""
    if "\0" in name or "\\" in name:
        return name.replace("\\", r"\\").replace("\0", r"\0")
    return name


def original(name: str) -> str:
    """What `storable` was given."""
    if "\\" in name:
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], name)
    return name


def _prediction(record: ConsumedRecord, partition: int, scored: ScoredRecord, kinds: Kinds) -> PredictionRow:
    classes = tuple(scored.scores)
    return PredictionRow(
        storable(scored.id),
        record.timestamp,
        partition,
        record.offset,
        kinds.number(scored.model, classes),
        classes.index(scored.label),
        confidence_bin(scored.scores[scored.label]),
        [int(score * PROBABILITY_UNITS + 0.5) for score in scored.scores.values()],  # round takes twice as long
    )


def _label(record: ConsumedRecord, feedback: Feedback) -> LabelRow:
    source = feedback.source and storable(feedback.source)
    at = record.timestamp, record.partition, record.offset
    return LabelRow(*at, storable(feedback.id), storable(feedback.label), source)


def _decoded(decode: Callable[[bytes], T], value: bytes | None) -> T | Refusal:
    if value is None:
        return Refusal.NULL_VALUE
    if isinstance(value, Unread):
        return Refusal.UNREADABLE
    try:
        return decode(value)
    except msgspec.ValidationError:
        return Refusal.INVALID_FIELD
    except NO_EVENT:
        return Refusal.BROKEN_JSON
