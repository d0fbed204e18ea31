"""One line a record of an output topic, live: what `streamgauge tail` shows. Never a text, unless it is asked for."""

import sys
from collections.abc import Callable
from typing import Any

from streamgauge.commands.reading import reader
from streamgauge.commands.running import close_standard_output
from streamgauge.events import CONNECT_ERRORS, NO_EVENT, decode_measurement, decode_prediction, last_header
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import harmless
from streamgauge.topic_reading import POLL_MS

MAX_SHOWN_CHARS = 2000


def result_line(value: bytes) -> str:
    """Position, label, score, id and times of a result."""
    event = decode_prediction(value)
    ms = (event.timings.tokenize_s + event.timings.queue_s + event.timings.infer_s) * 1000
    where = f"{event.source.partition}:{event.source.offset}"
    tokens = f"{event.tokens} tokens{', truncated' if event.truncated else ''}"
    return f"{where:>12}  {event.label:<10} {event.score:.3f}  {ms:7.1f} ms  {tokens:<10}  {event.id}"


def metric_line(value: bytes) -> str:
    """What a transaction covered."""
    event = decode_measurement(value)
    where = f"{event.partition}:{event.first_offset}-{event.last_offset}"
    mean_s = event.latency.sum / event.records if event.records else 0.0
    dead = sum(event.dead_letters.values())
    return (
        f"{event.began_at}  {where:>20}  {event.records:5} records  {dead:3} dead  {event.tokens:6} tokens  "
        f"latency mean {mean_s:.3f} s, max {event.latency.max:.3f} s  {event.worker}"
    )


def dead_letter_line(record: Any, *, with_value: bool) -> str:
    """Reason and origin; key and value only if asked for, because they are users'."""
    reason, message = _error(record, "exception.class.name"), _error(record, "exception.message")
    where = ":".join(_error(record, part) for part in ("topic", "partition", "offset"))
    line = f"{where}  {reason}  {message}"
    return f"{line}  key={_bytes(record.key)} value={_bytes(record.value)}" if with_value else line


def _error(record: Any, name: str) -> str:
    return (last_header(record.headers, CONNECT_ERRORS + name) or b"?").decode(errors="replace")


def _bytes(value: bytes | None) -> str:
    return "null" if value is None else value[:MAX_SHOWN_CHARS].decode(errors="backslashreplace")


async def tail(kafka: KafkaSettings, topic: str, since_ms: int | None, line_of: Callable[[Any], str]) -> None:
    """Print records as they are committed, until nobody reads any more."""
    async with reader(kafka, topic, since_ms) as consumer:
        if sys.stderr.isatty():
            earlier = "" if since_ms is not None else " from now on; earlier ones: --from 1h"
            print(f"waiting for records in {topic}{earlier}; Ctrl-C ends", file=sys.stderr)  # noqa: T201
        while True:
            polled = await consumer.getmany(timeout_ms=POLL_MS)
            try:
                for record in (record for records in polled.values() for record in records):
                    print(line(record, line_of))  # noqa: T201 - this is the output
                sys.stdout.flush()
            except BrokenPipeError:
                close_standard_output()
                return


def line(record: Any, line_of: Callable[[Any], str]) -> str:
    """A record in one line, which steers no terminal, whoever wrote the record."""
    try:
        return harmless(line_of(record))
    except NO_EVENT:
        return f"{record.topic}-{record.partition}@{record.offset} is no event of ours"


def lines_of(what: str, topics: TopicSettings, *, with_values: bool) -> tuple[str, Callable[[Any], str]]:
    """Which topic `what` is, and how a record of it is shown."""
    return {
        "results": (topics.results, lambda record: result_line(record.value or b"")),
        "audit": (topics.audit, lambda record: result_line(record.value or b"")),
        "metrics": (topics.metrics, lambda record: metric_line(record.value or b"")),
        "dead-letters": (topics.dead_letter, lambda record: dead_letter_line(record, with_value=with_values)),
    }[what]
