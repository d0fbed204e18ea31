"""The listener's edge: record values in, typed values or the reason of a refusal out.

Of a result only what the join needs is decoded, which is two to three times as fast as the whole event.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from streamgauge.events import Feedback, decode_feedback

T = TypeVar("T")

# Softmax in float32 may end a rounding error above 1; the upper bound keeps every sum finite.
Probability = Annotated[float, msgspec.Meta(ge=0, le=1.001)]


class Refusal(StrEnum):
    """Why a record of the results or the feedback topic takes no part."""

    NULL_VALUE = "null_value"
    BROKEN_JSON = "broken_json"
    INVALID_FIELD = "invalid_field"


class ScoredBy(msgspec.Struct, frozen=True, gc=False):
    """The part of `events.ModelRef` that tells model versions apart in metrics."""

    name: str
    version: str


class Scored(msgspec.Struct, frozen=True, gc=False):
    """The part of `events.Prediction` that is judged."""

    id: str
    label: str
    scores: dict[str, Probability]
    model: ScoredBy


_decode_scored = msgspec.json.Decoder(Scored).decode


def read_result(value: bytes | None) -> Scored | Refusal:
    """A record of the results topic; its label must be one of the scored classes."""
    scored = _read(_decode_scored, value)
    if isinstance(scored, Scored) and scored.label not in scored.scores:
        return Refusal.INVALID_FIELD
    return scored


def read_feedback(value: bytes | None) -> Feedback | Refusal:
    """A record of the feedback topic."""
    return _read(decode_feedback, value)


def _read(decode: Callable[[bytes], T], value: bytes | None) -> T | Refusal:
    if value is None:
        return Refusal.NULL_VALUE
    try:
        return decode(value)
    except msgspec.ValidationError:
        return Refusal.INVALID_FIELD
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # RecursionError: nested without end
        return Refusal.BROKEN_JSON
