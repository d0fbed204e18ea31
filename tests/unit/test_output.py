"""What one transaction writes: results and dead letters in order, then one metric event that adds up."""

from collections.abc import Sequence

from streamgauge.events import ModelRef, Reason, decode_measurement, decode_prediction, last_header
from streamgauge.settings import TopicSettings
from tests.records import FakeRecord
from worker.outcomes import Encoded, Outcome, Refused, Scored
from worker.output import Origin, OutputRecord, output_records

ORIGIN = Origin("shop", "worker-1", ModelRef(name="m", version="1", digest="sha256:0"), ("NEGATIVE", "POSITIVE"))
TOPICS = TopicSettings()
NOW_S = 1_700_000_000.25


def scored(offset: int, positive: float, *, truncated: bool = False, traceparent: bytes | None = None) -> Scored:
    headers = [("traceparent", b"old"), ("traceparent", traceparent)] if traceparent else []
    record = FakeRecord(b"SECRET", offset=offset, headers=headers)
    text = Encoded(record, f"id-{offset}", {"shop": 1}, [1, 2, 3], truncated, 0.001, 0.0)
    return Scored(text, [1 - positive, positive], queue_s=0.02, infer_s=0.004, padded_tokens=5, scored_at_s=1.0)


def write(outcomes: Sequence[Outcome]) -> list[OutputRecord]:
    return output_records(outcomes, ORIGIN, TOPICS, NOW_S)


def test_results_tell_all_but_the_text() -> None:
    """A result has id, scores, model, timings and source, CloudEvents headers, and never the text."""
    record = write([scored(3, 0.75, truncated=True, traceparent=b"00-new")])[0]
    prediction = decode_prediction(record.value or b"")
    assert (record.topic, record.key) == ("sentiment.results", b"id-3")
    assert (prediction.id, prediction.label, prediction.score) == ("id-3", "POSITIVE", 0.75)
    assert prediction.scores == {"NEGATIVE": 0.25, "POSITIVE": 0.75}
    assert (prediction.source.offset, prediction.tokens, prediction.truncated) == (3, 3, True)
    assert (prediction.metadata, prediction.model) == ({"shop": 1}, ORIGIN.model)
    assert b"SECRET" not in (record.value or b"")
    headers = dict(record.headers)
    assert headers["ce_id"] == b"sentiment.input-0-3"
    assert headers["ce_type"] == b"streamgauge.prediction.v1"
    assert headers["traceparent"] == b"00-new"


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    """Bytes, key, all headers and the timestamp are the record's; the reason stands in Kafka Connect's headers."""
    record = FakeRecord(b"\xff", 5, b"key", [("a", b"1"), ("a", b"2"), ("none", None)], timestamp=42)
    letter = write([Refused(record, Reason.NOT_UTF8, "not UTF-8 at byte 0")])[0]
    assert (letter.topic, letter.key, letter.value, letter.timestamp_ms) == (
        "sentiment.dead-letter",
        b"key",
        b"\xff",
        42,
    )
    assert list(letter.headers[:3]) == list(record.headers)
    assert last_header(letter.headers, "__connect.errors.exception.class.name") == b"not_utf8"
    assert last_header(letter.headers, "__connect.errors.offset") == b"5"


def test_the_metric_event_adds_up() -> None:
    """One event covers the transaction: records by outcome, tokens, times, and latencies by bucket."""
    outcomes: list[Outcome] = [scored(3, 0.75), Refused(FakeRecord(offset=4), Reason.EMPTY_TEXT, ""), scored(9, 0.1)]
    *outputs, last = write(outcomes)
    assert [output.topic for output in outputs] == ["sentiment.results", "sentiment.dead-letter", "sentiment.results"]
    measured = decode_measurement(last.value or b"")
    assert (last.topic, last.key) == ("sentiment.metrics", b"worker-1")
    assert (measured.first_offset, measured.last_offset, measured.records) == (3, 9, 3)
    assert (measured.labels, measured.dead_letters) == ({"POSITIVE": 1, "NEGATIVE": 1}, {"empty_text": 1})
    assert (measured.tokens, measured.padded_tokens) == (6, 10)
    assert measured.latency.counts[list(measured.latency.edges).index(0.3)] == 3
    assert measured.latency.max == 0.25
