"""The wire types: what stands in the topics. JSON by msgspec; unknown fields are ignored, so adding one is safe.

Every event carries `schema`, the version of its type, and travels with CloudEvents attributes as headers
(binary mode: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/kafka-protocol-binding.md).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

MAX_ID_CHARS = 256
MAX_LABEL_CHARS = 128
MAX_METADATA_BYTES = 4096
MAX_HEADERS = 128
"""Of an input record. Clients send a handful; a broker takes hundreds of thousands, 60 bytes each or more in Python."""

CONNECT_ERRORS = "__connect.errors."
"""How Kafka Connect's names for the headers of a dead letter begin (KIP-298). On the wire, and so frozen."""

Header = tuple[str, bytes]
MessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LABEL_CHARS)]
Metadata = dict[str, str | int | float | bool | None]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""JSON's numbers have no end; sums of these can still be divided."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all wire types."""


class TextSubmitted(Event, frozen=True, kw_only=True):
    """The JSON form of an input record; the other form is the bare text."""

    text: str
    """What is scored; not blank."""
    id: MessageId | None = None
    """Names the result. Without it the headers `{ce_source}/{ce_id}` do, else `{topic}-{partition}-{offset}`."""
    metadata: Metadata | None = None
    """Handed on to the result; at most 4,096 bytes as JSON."""


class ModelRef(Event, frozen=True, kw_only=True):
    """Which model scored."""

    name: str
    version: str
    """With the name, what tells models apart in all numbers."""
    digest: str
    """`sha256:` and the hash over model, tokenizer and configuration."""

    @property
    def key(self) -> str:
        """The value of the metrics' label `model`."""
        return f"{self.name}@{self.version}"


class Position(Event, frozen=True, kw_only=True):
    """Where an input record stood."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """When the broker took it, in milliseconds since the epoch."""


class Timings(Event, frozen=True, kw_only=True):
    """Seconds that one text spent in the worker, stage by stage."""

    tokenize_s: float
    queue_s: float
    """From tokenised until its batch began."""
    infer_s: float
    """This text's share of its batch's inference."""


class Prediction(Event, frozen=True, kw_only=True, omit_defaults=False):
    """One scored text, in the results topic; if it is in the audit, in the audit topic too. Never holds the text."""

    schema: int = 1
    id: str
    """The message's id, which a label names."""
    label: str
    """The class with the highest probability."""
    score: float
    """The probability of `label`, 0 to 1."""
    scores: dict[str, float]
    """By class, in the order of the model's output: a class's number is its place here."""
    model: ModelRef
    timings: Timings
    source: Position
    """The input record that was scored."""
    tokens: Count
    """What the model read, special tokens included."""
    truncated: bool
    """Whether the text was longer than the model reads."""
    metadata: Metadata | None = None
    """As the input record had it."""
    audit: float | None = None
    """The share of messages that were to be in the audit when this one was chosen for it; None: it is not in it. Then
    the same event stands in the audit topic as well."""


class Histogram(Event, frozen=True, kw_only=True, omit_defaults=False):
    """Seconds, counted by where they lie."""

    edges: Sequence[float]
    """Ascending, in seconds."""
    counts: Sequence[Count]
    """`counts[i]` lie in (edges[i - 1], edges[i]], those of the last count above all edges."""
    sum: float
    max: float


class Covered(Event, frozen=True, kw_only=True, omit_defaults=False):
    """Some records of one transaction, counted and measured."""

    records: Count
    """Results and dead letters."""
    labels: dict[str, Count]
    """Results by label."""
    dead_letters: dict[str, Count]
    """Dead letters by reason."""
    truncated: Count
    """Texts that were longer than the model reads."""
    tokens: Count
    """What the model read of these texts."""
    padded_tokens: float
    """Tokens computed for these texts, their share of the padding included."""
    tokenize_s: float
    queue_s: float
    infer_s: float
    """Sums over the records; a batch's inference time is shared among its texts."""
    latency: Histogram
    """From when the broker took each record to the beginning of this transaction."""


class CoveredByModel(Covered, frozen=True, kw_only=True, omit_defaults=False):
    """One model's part of a transaction."""

    model: ModelRef


class TransactionMeasured(Covered, frozen=True, kw_only=True, omit_defaults=False):
    """What one transaction covered, in the metrics topic; written in that same transaction."""

    schema: int = 1
    worker: str
    """The replica's name, which is the record's key too."""
    model: ModelRef
    """Which model scored; of several the one with the most results; if nothing was scored, the one in use."""
    topic: str
    """Of the input records."""
    partition: int
    first_offset: int
    """Of the first input record that is counted here."""
    last_offset: int
    began_at: str
    """RFC 3339, by the worker's clock."""
    models: Sequence[CoveredByModel] = ()
    """Where several models scored: the part of each, most results first. The parts add up to the whole; records that
    no model scored are in the first."""


class Feedback(Event, frozen=True, kw_only=True):
    """A label for a message id: the class that its text should have had. The last one for an id counts."""

    id: MessageId
    """The `id` of a result."""
    label: Label
    """One of the classes in the result's `scores`."""
    source: Label | None = None
    """Who labelled."""
    at: str | None = None
    """Informative; which label is the last, the broker's time decides."""
    schema: int = 1


class Reason(StrEnum):
    """Why a record is in the dead-letter topic."""

    NULL_VALUE = "null_value"
    SCHEMA_FRAMING = "schema_registry_framing"
    NOT_UTF8 = "not_utf8"
    BROKEN_JSON = "broken_json"
    MISSING_TEXT = "missing_text"
    EMPTY_TEXT = "empty_text"
    TEXT_TOO_LARGE = "text_too_large"
    INVALID_FIELD = "invalid_field"
    INFERENCE_FAILED = "inference_failed"
    SKIPPED = "skipped"
    TOO_MANY_HEADERS = "too_many_headers"
    UNREADABLE = "unreadable"
    """Its batch is broken, or unpacks to more than is ever unpacked; the dead letter holds nothing of the record."""


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_prediction = msgspec.json.Decoder(Prediction).decode
decode_measurement = msgspec.json.Decoder(TransactionMeasured).decode
decode_feedback = msgspec.json.Decoder(Feedback).decode
NO_EVENT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no event; the last one where they are nested without end."""


def utc_now() -> str:
    """Now, as CloudEvents and JSON Schema write a time (RFC 3339)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cloud_event(
    *,
    id: str,
    type: str,
    source: str,
    time: str,
    content_type: str = "application/json",
) -> list[Header]:
    """The CloudEvents attributes of one record as Kafka headers."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", content_type.encode()),
    ]


def last_header(headers: Iterable[tuple[str, bytes | None]], name: str) -> bytes | None:
    """The value of header `name`; of repeated ones the last counts."""
    found = None
    for key, value in headers:
        if key == name:
            found = value
    return found
