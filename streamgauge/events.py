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


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all wire types."""


class TextSubmitted(Event, frozen=True, kw_only=True):
    """The JSON form of an input record; the other form is the bare text."""

    text: str
    id: MessageId | None = None
    metadata: Metadata | None = None


class ModelRef(Event, frozen=True, kw_only=True):
    """Which model scored: `digest` is `sha256:` and the hash over model, tokenizer and configuration."""

    name: str
    version: str
    digest: str

    @property
    def key(self) -> str:
        """The value of the metrics' label `model`."""
        return f"{self.name}@{self.version}"


class Position(Event, frozen=True, kw_only=True):
    """Where an input record stood; `timestamp_ms` is the time at which the broker took it, since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Timings(Event, frozen=True, kw_only=True):
    """Seconds that one text spent in the worker, stage by stage."""

    tokenize_s: float
    queue_s: float
    infer_s: float


class Prediction(Event, frozen=True, kw_only=True, omit_defaults=False):
    """One scored text, in the results topic. Never holds the text."""

    schema: int = 1
    id: str
    label: str
    score: float
    """The probability of `label`, 0 to 1."""
    scores: dict[str, float]
    """By class, in the order of the model's output: a class's number is its place here."""
    model: ModelRef
    timings: Timings
    source: Position
    tokens: int
    """What the model read, special tokens included."""
    truncated: bool
    metadata: Metadata | None = None


class Histogram(Event, frozen=True, kw_only=True, omit_defaults=False):
    """Seconds: `counts[i]` of them lie in (edges[i - 1], edges[i]], those of the last count above all edges."""

    edges: Sequence[float]
    counts: Sequence[int]
    sum: float
    max: float


class Covered(Event, frozen=True, kw_only=True, omit_defaults=False):
    """Some records of one transaction, counted and measured."""

    records: int
    labels: dict[str, int]
    """Results by label."""
    dead_letters: dict[str, int]
    """Dead letters by reason."""
    truncated: int
    tokens: int
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
    model: ModelRef
    """Which model scored; of several the one with the most results; if nothing was scored, the one in use."""
    topic: str
    partition: int
    first_offset: int
    last_offset: int
    began_at: str
    models: Sequence[CoveredByModel] = ()
    """Where several models scored: the part of each, most results first. The parts add up to the whole; records that
    no model scored are in the first."""


class Feedback(Event, frozen=True, kw_only=True):
    """A label for a message id. `source` says who labelled; `at` is informative: the broker's time decides."""

    id: MessageId
    label: Label
    source: Label | None = None
    at: str | None = None
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
    """Of old dead letters: a record that has a header with a name that is not UTF-8 is read now as any other."""


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_prediction = msgspec.json.Decoder(Prediction).decode
decode_measurement = msgspec.json.Decoder(TransactionMeasured).decode
decode_feedback = msgspec.json.Decoder(Feedback).decode


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
