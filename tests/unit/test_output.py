"""What one transaction writes: results and dead letters in order, then one metric event that adds up."""

from collections.abc import Sequence

import msgspec
import pytest

from streamgauge.events import ModelRef, Reason, decode_measurement, decode_prediction
from streamgauge.settings import TopicSettings
from streamgauge.unpacking import Unread
from tests.records import FakeRecord
from worker.audit import Audit
from worker.outcomes import Encoded, ModelIdentity, Outcome, Refused, Scored, Shown, Visible
from worker.output import MAX_TRACEPARENT_BYTES, Origin, OutputRecord, fitting, output_records

ORIGIN = Origin("shop", "worker-1")
MODEL = ModelIdentity(ModelRef(name="m", version="1", digest="sha256:0"), ("NEGATIVE", "POSITIVE"))
OTHER = ModelIdentity(ModelRef(name="n", version="2", digest="sha256:1"), ("bad", "good"))
TOPICS = TopicSettings()
NOW_S = 1_700_000_000.25
NO_AUDIT = Audit(0, "")


def scored(
    offset: int,
    positive: float,
    *,
    truncated: bool = False,
    traceparent: bytes | None = None,
    model: ModelIdentity = MODEL,
) -> Scored:
    headers = [("traceparent", b"old"), ("traceparent", traceparent)] if traceparent else []
    record = FakeRecord(b"SECRET", offset=offset, headers=headers)
    text = Encoded(record, f"id-{offset}", b'{"shop": 1}', [1, 2, 3], truncated, 0.001, 0.0)
    return Scored(text, model, [1 - positive, positive], queue_s=0.02, infer_s=0.004, padded_tokens=5, scored_at_s=1.0)


def write(outcomes: Sequence[Outcome], *, audit_share: float = 0) -> list[OutputRecord]:
    return output_records(outcomes, ORIGIN, Audit(audit_share, ""), MODEL.ref, TOPICS, NOW_S)


def test_results_tell_all_but_the_text() -> None:
    """A result has id, scores, model, timings and source, CloudEvents headers, and never the text."""
    record = write([scored(3, 0.75, truncated=True, traceparent=b"00-new")])[0]
    prediction = decode_prediction(record.value or b"")
    assert (record.topic, record.key) == ("sentiment.results", b"id-3")
    assert (prediction.id, prediction.label, prediction.score) == ("id-3", "POSITIVE", 0.75)
    assert list(prediction.scores.items()) == [("NEGATIVE", 0.25), ("POSITIVE", 0.75)]  # in the model's order
    assert (prediction.source.offset, prediction.tokens, prediction.truncated) == (3, 3, True)
    assert (prediction.metadata, prediction.model) == ({"shop": 1}, MODEL.ref)
    assert b"SECRET" not in (record.value or b"")
    headers = dict(record.headers)
    assert headers["ce_id"] == b"sentiment.input-0-3"
    assert headers["ce_type"] == b"streamgauge.prediction.v1"
    assert headers["traceparent"] == b"00-new"
    for size, is_handed_on in ((MAX_TRACEPARENT_BYTES, True), (MAX_TRACEPARENT_BYTES + 1, False)):
        headers = dict(write([scored(3, 0.75, traceparent=b"x" * size)])[0].headers)
        assert ("traceparent" in headers) is is_handed_on


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    """Bytes, key and all headers are the record's, a header tells its timestamp; Kafka Connect's tell the reason."""
    record = FakeRecord(b"\xff", 5, b"key", [("a", b"1"), ("a", b"2"), ("none", None)], timestamp=42)
    letter = write([Refused(record, Reason.NOT_UTF8, "not UTF-8 at byte 0")])[0]
    assert (letter.topic, letter.key, letter.value) == ("sentiment.dead-letter", b"key", b"\xff")
    assert list(letter.headers[:3]) == list(record.headers)
    assert letter.headers[-1] == ("streamgauge.source.timestamp_ms", b"42")


@pytest.mark.parametrize(
    ("reason", "stage", "refused_by"),
    [(Reason.NOT_UTF8, b"VALUE_CONVERTER", b"worker.intake"), (Reason.INFERENCE_FAILED, b"TASK_PUT", b"worker.model")],
)
def test_the_headers_of_a_dead_letter_are_a_contract(reason: Reason, stage: bytes, refused_by: bytes) -> None:
    """Their names and values are on the wire: readers go by them, whatever the modules are called."""
    letter = write([Refused(FakeRecord(offset=5, partition=3, timestamp=42), reason, "no")])[0]
    assert list(letter.headers) == [
        ("__connect.errors.topic", b"sentiment.input"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"5"),
        ("__connect.errors.connector.name", b"streamgauge"),
        ("__connect.errors.task.id", b"worker-1"),
        ("__connect.errors.stage", stage),
        ("__connect.errors.class.name", refused_by),
        ("__connect.errors.exception.class.name", reason.value.encode()),
        ("__connect.errors.exception.message", b"no"),
        ("streamgauge.group", b"shop"),
        ("streamgauge.source.timestamp_ms", b"42"),
    ]


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
    assert (measured.model, measured.models) == (MODEL.ref, [])


def test_a_transaction_of_two_models_says_so() -> None:
    """Each result names who scored it, in its labels; the event has a part for each model, and the parts add up."""
    outcomes: list[Outcome] = [
        scored(3, 0.75),
        scored(4, 0.9, model=OTHER),
        Refused(FakeRecord(offset=5), Reason.EMPTY_TEXT, ""),
        scored(6, 0.2, model=OTHER),
    ]
    first, second, _letter, third, last = write(outcomes)
    results = [decode_prediction(record.value or b"") for record in (first, second, third)]
    assert [(result.model, result.label) for result in results] == [
        (MODEL.ref, "POSITIVE"),
        (OTHER.ref, "good"),
        (OTHER.ref, "bad"),
    ]
    assert results[1].scores == {"bad": 0.1, "good": 0.9}
    measured = decode_measurement(last.value or b"")
    assert measured.model == OTHER.ref
    assert measured.labels == {"POSITIVE": 1, "good": 1, "bad": 1}
    assert [(part.model, part.records, part.labels, part.dead_letters) for part in measured.models] == [
        (OTHER.ref, 3, {"good": 1, "bad": 1}, {"empty_text": 1}),
        (MODEL.ref, 1, {"POSITIVE": 1}, {}),
    ]
    assert sum(part.tokens for part in measured.models) == measured.tokens
    assert sum(sum(part.latency.counts) for part in measured.models) == measured.records


def test_where_nothing_was_scored_the_model_in_use_is_named() -> None:
    """Readers of the event always find a model."""
    measured = decode_measurement(write([Refused(FakeRecord(), Reason.EMPTY_TEXT, "")])[-1].value or b"")
    assert (measured.model, measured.models) == (MODEL.ref, [])


def test_what_is_visible_is_measured_and_not_written_again() -> None:
    """An event made up from what stands in the topics tells what the missing one told, but for the padding."""
    outcomes: list[Outcome] = [scored(3, 0.75), Refused(FakeRecord(offset=4), Reason.EMPTY_TEXT, ""), scored(9, 0.1)]
    *outputs, missing = write(outcomes)
    shown = [
        Shown(decode_prediction(outputs[0].value or b""), None, round(NOW_S * 1000)),
        Shown(None, "empty_text", None),
        Shown(decode_prediction(outputs[2].value or b""), None, round(NOW_S * 1000)),
    ]
    visible: list[Outcome] = [Visible(each.record, what) for each, what in zip(outcomes, shown, strict=True)]
    [made_up] = write(visible)
    expected = decode_measurement(missing.value or b"")
    event = decode_measurement(made_up.value or b"")
    assert event.padded_tokens == event.tokens == 6
    same = {"began_at": "", "padded_tokens": 0.0}
    assert msgspec.structs.replace(event, **same) == msgspec.structs.replace(expected, **same)


def test_what_has_been_measured_is_not_measured_again() -> None:
    """Records of a transaction whose event alone is visible are written; the event covers the others."""
    *outputs, event = output_records(
        [scored(3, 0.75), scored(4, 0.1), scored(5, 0.1)],
        ORIGIN,
        NO_AUDIT,
        MODEL.ref,
        TOPICS,
        NOW_S,
        is_measured={3, 4}.__contains__,
    )
    assert len(outputs) == 3
    measured = decode_measurement(event.value or b"")
    assert (measured.first_offset, measured.last_offset, measured.records) == (5, 5, 1)
    results = output_records(
        [scored(3, 0.75)], ORIGIN, NO_AUDIT, MODEL.ref, TOPICS, NOW_S, is_measured={3}.__contains__
    )
    assert [record.topic for record in results] == ["sentiment.results"]


def test_what_is_in_the_audit_stands_in_both_topics() -> None:
    """The same record, with the share in it, in offset order; what is not in it says so."""
    outcomes: list[Outcome] = [
        *(scored(offset, 0.75) for offset in range(100)),
        Refused(FakeRecord(offset=100), Reason.EMPTY_TEXT, ""),
    ]
    records = write(outcomes, audit_share=0.3)
    results = [record for record in records if record.topic == TOPICS.results]
    predictions = [decode_prediction(record.value or b"") for record in results]
    marked = [record for record, what in zip(results, predictions, strict=True) if what.audit]
    assert 10 < len(marked) < 60
    assert {what.audit for what in predictions} == {None, 0.3}
    assert [record for record in records if record.topic == TOPICS.audit] == [
        msgspec.structs.replace(record, topic=TOPICS.audit) for record in marked
    ]
    assert b'"audit":null' in (write([scored(3, 0.75)])[0].value or b"")


@pytest.mark.parametrize(("seen", "other"), [(TOPICS.results, TOPICS.audit), (TOPICS.audit, TOPICS.results)])
def test_what_stands_in_one_topic_is_copied_to_the_other(seen: str, other: str) -> None:
    """Byte for byte: scored again it might be another prediction. It is measured as what was scored."""
    one = scored(3, 0.75, traceparent=b"00-new")
    *both, event = write([one], audit_share=1)
    [found] = [record for record in both if record.topic == seen]
    record = FakeRecord(found.value, 7, found.key, found.headers, topic=seen)
    prediction = decode_prediction(found.value or b"")
    shown = Shown(prediction, None, round(NOW_S * 1000) if seen == TOPICS.results else None, record)
    copy, made_up = write([Visible(one.record, shown)])
    assert (copy.topic, copy.key, copy.value) == (other, found.key, found.value)
    assert list(copy.headers) == list(found.headers)
    same = {"began_at": "", "padded_tokens": 0.0}
    was, is_now = (decode_measurement(record.value or b"") for record in (event, made_up))
    assert msgspec.structs.replace(is_now, **same) == msgspec.structs.replace(was, **same)


def test_a_dead_letter_of_what_was_never_read_is_empty() -> None:
    """Bytes that any builder of batches takes, also the one for odd header names."""
    refused = Refused(FakeRecord(Unread(), 7), Reason.UNREADABLE, "broken")
    [letter, _measured] = output_records([refused], Origin("g", "w"), NO_AUDIT, MODEL.ref, TopicSettings(), 0.0)
    assert (type(letter.value), letter.value) == (bytes, b"")


def test_a_dead_letter_that_no_topic_takes_is_left_empty() -> None:
    """It names its record, and why it holds nothing of it; one that fits is as it was."""
    record = FakeRecord(b"x" * 500, offset=7, key=b"k" * 300, headers=[("name", b"y" * 196)])
    refused = Refused(record, Reason.NOT_UTF8, "not UTF-8 at byte 0")
    assert fitting(refused, 1000) is refused
    emptied = fitting(refused, 999)
    assert isinstance(emptied, Refused)
    assert emptied.reason is Reason.UNREADABLE
    [letter, _measured] = output_records([emptied], Origin("g", "w"), NO_AUDIT, MODEL.ref, TopicSettings(), 0.0)
    assert (letter.key, letter.value) == (None, b"")
    assert ("__connect.errors.offset", b"7") in letter.headers
