"""Which bytes are a text, which are refused and why, and which id a message has."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.events import MAX_ID_CHARS, Reason
from streamgauge.unpacking import Unread
from tests.records import FakeRecord
from worker.intake import decode
from worker.outcomes import Accepted, Headers, Refused

LIMIT_BYTES = 1000


def accepted(value: bytes | None, headers: Headers = ()) -> Accepted:
    outcome = decode(FakeRecord(value, offset=7, headers=headers), max_text_bytes=LIMIT_BYTES)
    assert isinstance(outcome, Accepted)
    return outcome


def refused(value: bytes | None, headers: Headers = ()) -> Refused:
    outcome = decode(FakeRecord(value, headers=headers), max_text_bytes=LIMIT_BYTES)
    assert isinstance(outcome, Refused)
    return outcome


def test_plain_text_is_taken_as_it_is() -> None:
    """Any UTF-8 text is valid input, blanks and all."""
    assert accepted("  schön \N{PARTY POPPER}\n".encode()).text == "  schön \N{PARTY POPPER}\n"


@pytest.mark.parametrize(
    "value", [b'{"text": "good"}', b'\n\t {"text": "good", "other": [1]}', b'\xef\xbb\xbf{"text": "good"}']
)
def test_an_object_is_json(value: bytes) -> None:
    """What begins with a brace is JSON; unknown fields are ignored, blanks and a byte order mark skipped."""
    assert accepted(value).text == "good"


def test_the_content_type_decides_where_it_is_given() -> None:
    """A text that begins with a brace can be sent as such, and the last of repeated headers counts."""
    assert accepted(b"{sic}", [("content-type", b"text/plain; charset=utf-8")]).text == "{sic}"
    headers = [("content-type", b"text/plain"), ("content-type", b"application/json")]
    assert refused(b"plain", headers).reason is Reason.BROKEN_JSON
    assert accepted(b'{"text": "x"}', [("content-type", b"application/cloudevents+json")]).text == "x"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NULL_VALUE),
        (Unread(), Reason.UNREADABLE),
        (b"", Reason.EMPTY_TEXT),
        (b" \n", Reason.EMPTY_TEXT),
        (b'{"text": ""}', Reason.EMPTY_TEXT),
        (b"\x00\x00\x00\x00\x01abc", Reason.SCHEMA_FRAMING),
        (b"\xff\xfe", Reason.NOT_UTF8),
        (b'{"text": "\xff"}', Reason.NOT_UTF8),
        (b'{"text": "a"', Reason.BROKEN_JSON),
        (b'{"text": "\\ud800"}', Reason.BROKEN_JSON),
        (b'{"text": "\\ude00 alone"}', Reason.BROKEN_JSON),
        (b'{"text": "\\ude00\\ud83d"}', Reason.BROKEN_JSON),
        (b'{"text": "a", "id": "\\ud83d"}', Reason.BROKEN_JSON),
        (b'{"text": "\xed\xa0\xbd"}', Reason.NOT_UTF8),
        (b'{"text": "a"} {"text": "b"}', Reason.BROKEN_JSON),
        (b'{"text": "a", "x": ' + b"[" * 100_000, Reason.BROKEN_JSON),
        (b'{"txt": "a"}', Reason.MISSING_TEXT),
        (b'{"text": 5}', Reason.INVALID_FIELD),
        (b'{"text": "a", "id": ""}', Reason.INVALID_FIELD),
        (b'{"text": "a", "metadata": {"k": [1]}}', Reason.INVALID_FIELD),
        (b'{"text": "a", "metadata": {"k": "' + b"x" * 5000 + b'"}}', Reason.INVALID_FIELD),
        (b"x" * (LIMIT_BYTES + 1), Reason.TEXT_TOO_LARGE),
        ("\N{PARTY POPPER}" * (LIMIT_BYTES // 4 + 1), Reason.TEXT_TOO_LARGE),
    ],
)
def test_bad_input_is_refused_by_reason(value: bytes | str | None, reason: Reason) -> None:
    """Every kind of bad input has its own reason."""
    assert refused(value.encode() if isinstance(value, str) else value).reason is reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"text": "\\ud83d\\ude00"}', "\N{GRINNING FACE}"),
        (b'{"text": "a\\u0000b"}', "a\0b"),
        (b"a\0b", "a\0b"),
        (
            "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u200f\u0645\u0631\u062d\u0628\u0627".encode(),
            "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u200f\u0645\u0631\u062d\u0628\u0627",
        ),
        (b"x" * LIMIT_BYTES, "x" * LIMIT_BYTES),
    ],
    ids=["paired surrogates", "NUL in JSON", "NUL", "right to left", "one character"],
)
def test_odd_unicode_is_text(value: bytes, text: str) -> None:
    """Emoji as escapes, NUL after the first byte, right-to-left scripts and endless words are taken as they are."""
    assert accepted(value).text == text


@given(st.binary())
def test_any_bytes_have_an_outcome(value: bytes) -> None:
    """No bytes stop the stream, and no explanation quotes the text."""
    outcome = decode(FakeRecord(value), max_text_bytes=LIMIT_BYTES)
    assert isinstance(outcome, Accepted | Refused)


@given(st.text(min_size=20, alphabet=st.characters(categories=["Lu"])))
def test_explanations_never_quote(secret: str) -> None:
    """What goes into headers and logs about a refused record holds nothing of it."""
    for value in (
        f'{{"text": {secret}}}',
        f'{{"text": "a", "id": ["{secret}"]}}',
        f'{{"text": "a", "metadata": "{secret}"}}',
    ):
        assert secret not in refused(value.encode()).explanation


def test_the_id_comes_from_the_value_then_the_headers_then_the_position() -> None:
    """JSON id, else CloudEvents source and id, else where the record stood; never the key."""
    cloud_event = [("ce_source", b"shop"), ("ce_id", b"41"), ("ce_id", b"42")]
    assert accepted(b'{"text": "a", "id": "own"}', cloud_event).message_id == "own"
    assert accepted(b"a", cloud_event).message_id == "shop/42"
    assert accepted(b"a", [("ce_id", b"42")]).message_id == "sentiment.input-0-7"


def test_a_republished_dead_letter_keeps_its_id() -> None:
    """The first position in the error headers is where the message came from, also when it failed twice."""
    once = [("__connect.errors.topic", b"in"), ("__connect.errors.partition", b"3"), ("__connect.errors.offset", b"9")]
    again = [
        ("__connect.errors.topic", b"in"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"55"),
    ]
    assert accepted(b"a", [*once, *again]).message_id == "in-3-9"


def test_ids_have_a_limit() -> None:
    """An id longer than the limit is refused, wherever it comes from."""
    long = b"x" * (MAX_ID_CHARS + 1)
    assert refused(b'{"text": "a", "id": "%s"}' % long).reason is Reason.INVALID_FIELD
    assert refused(b"a", [("ce_source", b"s"), ("ce_id", long)]).reason is Reason.INVALID_FIELD
    assert refused(b"a", [("ce_source", b"s"), ("ce_id", b"\xff")]).reason is Reason.NOT_UTF8


def test_metadata_passes_through() -> None:
    """Scalars in metadata arrive as they were sent."""
    metadata = {"shop": "north", "stars": 4, "weight": 0.5, "new": True, "note": None}
    assert accepted(msgspec.json.encode({"text": "a", "metadata": metadata})).metadata == msgspec.json.encode(metadata)
