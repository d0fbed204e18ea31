"""Record in, accepted text or refusal out: all that the worker thinks about a record's bytes. Pure."""

import codecs
from collections.abc import Mapping

import msgspec

from streamgauge.events import (
    CONNECT_ERRORS,
    MAX_HEADERS,
    MAX_ID_CHARS,
    MAX_METADATA_BYTES,
    Reason,
    TextSubmitted,
    encode,
)
from streamgauge.unpacking import Unread
from worker.dead_letters import first_position
from worker.outcomes import Accepted, InputRecord, Refused


class _Refusal(Exception):  # noqa: N818 - control flow inside this module
    def __init__(self, reason: Reason, explanation: str) -> None:
        self.reason, self.explanation = reason, explanation


_decode_json = msgspec.json.Decoder(TextSubmitted).decode


def decode(record: InputRecord, *, max_text_bytes: int) -> Accepted | Refused:
    """Decode one input record: plain UTF-8 text, or JSON with `text` and perhaps `id` and `metadata`."""
    try:
        value = _unframed(record.value)
        headers = _headers(record)
        if _is_json(value, headers):
            submitted = _submitted(value)
            text, own_id, metadata = submitted.text, submitted.id, _metadata(submitted)
        else:
            text, own_id, metadata = _utf8(value), None, None
        _check_text(text, max_text_bytes)
        return Accepted(record, own_id or _message_id(record, headers), text, metadata)
    except _Refusal as refusal:
        return Refused(record, refusal.reason, refusal.explanation)


def _message_id(record: InputRecord, headers: Mapping[str, bytes | None]) -> str:
    """The id of a record whose value names none: CloudEvents' source and id, else the position it first had.

    A dead letter that was published again carries its first position in its headers, and so keeps its id.
    """
    source, event_id = headers.get("ce_source"), headers.get("ce_id")
    if source and event_id:
        return _own_id(b"%s/%s" % (source, event_id))
    if CONNECT_ERRORS + "offset" in headers and (first := first_position(record.headers)):
        return _own_id(b"-".join(first))
    return f"{record.topic}-{record.partition}-{record.offset}"


def _own_id(raw: bytes) -> str:
    text = _utf8(raw)
    if len(text) > MAX_ID_CHARS:
        raise _Refusal(Reason.INVALID_FIELD, f"the id in the headers is longer than {MAX_ID_CHARS} characters")
    return text


def _unframed(value: bytes | None) -> bytes:
    if value is None:
        raise _Refusal(Reason.NULL_VALUE, "the value is null")
    if isinstance(value, Unread):
        raise _Refusal(Reason.UNREADABLE, "it came in a batch that is broken, or is too large when it is unpacked")
    if value.startswith(b"\0"):
        raise _Refusal(Reason.SCHEMA_FRAMING, "the value starts with a zero byte, as a schema registry's framing does")
    return value


def _headers(record: InputRecord) -> dict[str, bytes | None]:
    """By name; of repeated ones the last counts."""
    if len(record.headers) > MAX_HEADERS:
        raise _Refusal(Reason.TOO_MANY_HEADERS, f"more than {MAX_HEADERS} headers; the others are left out here")
    return dict(record.headers)


def _is_json(value: bytes, headers: Mapping[str, bytes | None]) -> bool:
    """By content type where one is given that says, else by the first byte that is not blank."""
    if given := headers.get("content-type"):
        content_type = given.split(b";")[0].strip().lower()
        if content_type == b"application/json" or content_type.endswith(b"+json"):
            return True
        if content_type.startswith(b"text/"):
            return False
    return value.lstrip(b" \t\r\n" + codecs.BOM_UTF8).startswith(b"{")


def _submitted(value: bytes) -> TextSubmitted:
    _utf8(value)
    try:
        submitted = _decode_json(value.removeprefix(codecs.BOM_UTF8))
    except msgspec.ValidationError as error:
        missing = "missing required field `text`" in str(error)
        raise _Refusal(Reason.MISSING_TEXT if missing else Reason.INVALID_FIELD, str(error)) from None
    except msgspec.DecodeError as error:
        raise _Refusal(Reason.BROKEN_JSON, str(error)) from None
    except RecursionError:
        raise _Refusal(Reason.BROKEN_JSON, "JSON is nested too deeply") from None
    return submitted


def _metadata(submitted: TextSubmitted) -> bytes | None:
    """As JSON: a dictionary of many small fields would hold twenty times as much while the text waits."""
    if not submitted.metadata:
        return None
    metadata = encode(submitted.metadata)
    if len(metadata) > MAX_METADATA_BYTES:
        raise _Refusal(Reason.INVALID_FIELD, f"metadata is larger than {MAX_METADATA_BYTES} bytes")
    return metadata


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _Refusal(Reason.NOT_UTF8, f"not UTF-8 at byte {error.start}") from None


def _check_text(text: str, max_text_bytes: int) -> None:
    if not text or text.isspace():
        raise _Refusal(Reason.EMPTY_TEXT, "the text is empty")
    # Four bytes a character at most: short texts, nearly all, are measured without being encoded again.
    if len(text) * 4 > max_text_bytes and len(text.encode()) > max_text_bytes:
        raise _Refusal(Reason.TEXT_TOO_LARGE, f"the text is larger than {max_text_bytes} bytes")
