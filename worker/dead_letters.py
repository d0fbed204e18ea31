"""A dead letter's headers: what a refusal adds to its record's, and what of it goes along when it is published again.

The names are on the wire, and so frozen. Pure.
"""

import re
from collections.abc import Iterable, Sequence

from streamgauge.events import CONNECT_ERRORS, Header, Reason, last_header
from worker.outcomes import Headers, Refused

CONNECTOR = "streamgauge"
INTAKE, MODEL = "worker.intake", "worker.model"
"""Who refused, in the header `class.name`. Frozen, whatever our modules are called."""
GROUP_HEADER = "streamgauge.group"
"""The group that refused the record. Results tell it in `ce_source`, which a record may have too."""
TIMESTAMP_HEADER = "streamgauge.source.timestamp_ms"
"""The record's own timestamp. That of the dead letter is the time at which it was written."""
REPLAYED_HEADER = "streamgauge.replayed"
"""Of a record that was a dead letter before: when it was published again."""
POSITION = tuple(CONNECT_ERRORS + part for part in ("topic", "partition", "offset"))
"""Where the record stood. A record that was refused twice has these twice; the first give it its id."""
ADDED = (
    *POSITION,
    *(
        CONNECT_ERRORS + name
        for name in (
            "connector.name",
            "task.id",
            "stage",
            "class.name",
            "exception.class.name",
            "exception.message",
        )
    ),
    GROUP_HEADER,
    TIMESTAMP_HEADER,
)
"""What a refusal adds: Kafka Connect's error headers (KIP-298), then ours."""


def refusal_headers(refused: Refused, group: str, instance: str) -> list[Header]:
    """What is appended to the headers of the record that was refused."""
    record = refused.record
    by_model = refused.reason is Reason.INFERENCE_FAILED
    values = (
        record.topic,
        str(record.partition),
        str(record.offset),
        CONNECTOR,
        instance,
        "TASK_PUT" if by_model else "VALUE_CONVERTER",
        MODEL if by_model else INTAKE,
        refused.reason.value,
        refused.explanation,
        group,
        str(record.timestamp),
    )
    return [(name, value.encode()) for name, value in zip(ADDED, values, strict=True)]


def first_position(headers: Iterable[tuple[str, bytes | None]]) -> tuple[bytes, bytes, bytes] | None:
    """Topic, partition and offset that a record first had, as its first error headers tell; None: they do not."""
    first = dict(reversed([*headers]))
    topic, partition, offset = (first.get(name) for name in POSITION)
    return (topic, partition, offset) if topic and partition and offset else None


def headers_back(headers: Headers, replayed_at: str) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter that is published again: the record's, its first position, and when.

    What else the refusal added stays behind: the record would grow with each replay, beyond what its topic takes.
    """
    kept = list(headers)
    added = [(name, value) for name in ADDED if (value := _without_last(kept, name)) is not None]
    if not first_position(kept):
        kept = [header for header in kept if header[0] not in POSITION]
        kept += [header for header in added if header[0] in POSITION]
    return [*kept, (REPLAYED_HEADER, replayed_at.encode())]


def _without_last(headers: list[tuple[str, bytes | None]], name: str) -> bytes | None:
    """Take the last header of that name away; its value."""
    for index in reversed(range(len(headers))):
        if headers[index][0] == name:
            return headers.pop(index)[1]
    return None


def was_replayed(headers: Headers) -> bool:
    """Whether the record that was refused had been a dead letter before."""
    return any(name == REPLAYED_HEADER for name, _value in headers)


def number_in(headers: Sequence[tuple[str, bytes | None]], name: str) -> int | None:
    """The number that the last header of that name holds; None when it holds none."""
    value = last_header(headers, name) or b""
    return int(value) if re.fullmatch(rb"[0-9]{1,18}", value) else None
