"""What a record becomes on its way through the worker: a text, tokens, a score or a refusal. Values only.

The stages share these; so nothing here loads a runtime, neither the model's nor Kafka's.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from streamgauge.events import ModelRef, Prediction, Reason

Headers = Sequence[tuple[str, bytes | None]]


class InputRecord(Protocol):
    """What the worker reads of a Kafka record; aiokafka's ConsumerRecord is one. `timestamp`: ms since the epoch."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class ModelIdentity(msgspec.Struct, frozen=True, cache_hash=True):
    """Who scored: the model, and its labels in the order of its probabilities."""

    ref: ModelRef
    labels: tuple[str, ...]


class Accepted(msgspec.Struct, frozen=True):
    """A record that holds a text."""

    record: InputRecord
    message_id: str
    text: str
    metadata: bytes | None
    """The JSON of it."""


class Refused(msgspec.Struct, frozen=True):
    """A record that becomes a dead letter. `explanation` never quotes the record."""

    record: InputRecord
    reason: Reason
    explanation: str


class Encoded(msgspec.Struct, frozen=True):
    """A text as the model reads it, waiting for a batch; `*_s` are seconds on the monotonic clock or durations."""

    record: InputRecord
    message_id: str
    metadata: bytes | None
    ids: Sequence[int]
    truncated: bool
    tokenize_s: float
    waiting_since_s: float

    @property
    def tokens(self) -> int:
        return len(self.ids)


class Scored(msgspec.Struct, frozen=True):
    """A text's probabilities, one per label of the model, with what they cost."""

    text: Encoded
    model: ModelIdentity
    probabilities: list[float]
    queue_s: float
    infer_s: float
    """This text's share of its batch's inference."""
    padded_tokens: float
    """This text's share of the tokens computed."""
    scored_at_s: float
    """On the monotonic clock."""

    @property
    def record(self) -> InputRecord:
        return self.text.record

    @property
    def best(self) -> tuple[str, float]:
        """The predicted label and its probability."""
        probability = max(self.probabilities)
        return self.model.labels[self.probabilities.index(probability)], probability

    @property
    def batch_s(self) -> float:
        """How long the inference of its batch took."""
        return self.scored_at_s - self.text.waiting_since_s - self.queue_s

    @property
    def latency_s(self) -> float:
        """From fetched to scored."""
        return self.text.tokenize_s + self.scored_at_s - self.text.waiting_since_s


class Shown(msgspec.Struct, frozen=True):
    """What readers see of a record already: a result or a dead letter."""

    prediction: Prediction | None
    reason: str | None
    """Of a dead letter."""
    at_ms: int | None
    """When a result was written, since the epoch; None: there is none yet."""
    unpaired: InputRecord | None = None
    """The prediction's record, where it stands in only one of the results and the audit, and belongs in both."""


class Visible(msgspec.Struct, frozen=True):
    """A record whose result or dead letter stands in the topics, although no committed offset says so."""

    record: InputRecord
    shown: Shown


Outcome = Scored | Refused | Visible


def by_model(outcomes: Iterable[Outcome]) -> dict[ModelIdentity, list[Scored]]:
    """What was scored, by who scored it, in the order given."""
    scored: dict[ModelIdentity, list[Scored]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Scored):
            scored.setdefault(outcome.model, []).append(outcome)
    return scored


def was_given_to_the_model(outcome: Outcome) -> bool:
    """Whether this worker's model has scored the record, or failed on it."""
    return isinstance(outcome, Scored) or (isinstance(outcome, Refused) and outcome.reason is Reason.INFERENCE_FAILED)
