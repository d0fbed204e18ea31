"""Outcomes as the records that one transaction writes. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from streamgauge.events import (
    Header,
    Histogram,
    ModelRef,
    Position,
    Prediction,
    Reason,
    Timings,
    TransactionMeasured,
    cloud_event,
    encode,
    last_header,
    utc_now,
)
from streamgauge.settings import TopicSettings
from worker.metrics import LATENCY_EDGES_S
from worker.outcomes import Headers, InputRecord, Outcome, Refused, Scored

CONNECTOR = "streamgauge"


class OutputRecord(msgspec.Struct, frozen=True):
    """A record to be written to the partition of its source; `timestamp_ms` None means now."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes: the group's name makes `ce_source`, the replica's name the metric events' key."""

    group: str
    instance: str
    model: ModelRef
    labels: tuple[str, ...]


def output_records(
    outcomes: Sequence[Outcome], origin: Origin, topics: TopicSettings, now_s: float
) -> list[OutputRecord]:
    """Results and dead letters in offset order, then one metric event. `now_s`: seconds since the epoch."""
    time = utc_now()
    source = f"/streamgauge/{origin.group}"
    common = [
        attribute
        for attribute in cloud_event(id="", type="streamgauge.prediction.v1", source=source, time=time)
        if attribute[0] != "ce_id"
    ]
    records = [
        _result(outcome, origin, topics.results, common)
        if isinstance(outcome, Scored)
        else _dead_letter(outcome, origin, topics.dead_letter)
        for outcome in outcomes
    ]
    measured = measure(outcomes, origin, now_s, time)
    event_id = f"{measured.topic}-{measured.partition}-{measured.first_offset}"
    headers = cloud_event(id=event_id, type="streamgauge.transaction.v1", source=source, time=time)
    return [*records, OutputRecord(topics.metrics, origin.instance.encode(), encode(measured), headers)]


def best(scored: Scored, labels: tuple[str, ...]) -> tuple[str, float]:
    """The predicted label and its probability."""
    probability = max(scored.probabilities)
    return labels[scored.probabilities.index(probability)], probability


def _result(scored: Scored, origin: Origin, topic: str, common: Sequence[Header]) -> OutputRecord:
    """`common`: the headers that all results of a transaction have."""
    text, record = scored.text, scored.record
    label, score = best(scored, origin.labels)
    prediction = Prediction(
        id=text.message_id,
        label=label,
        score=_rounded(score),
        scores=dict(zip(origin.labels, map(_rounded, scored.probabilities), strict=True)),
        model=origin.model,
        timings=Timings(
            tokenize_s=_rounded(text.tokenize_s),
            queue_s=_rounded(scored.queue_s),
            infer_s=_rounded(scored.infer_s),
        ),
        source=_position(record),
        tokens=text.tokens,
        truncated=text.truncated,
        metadata=text.metadata,
    )
    event_id = f"{record.topic}-{record.partition}-{record.offset}"
    headers: list[Header] = [("ce_id", event_id.encode()), *common]
    if record.headers and (traceparent := last_header(record.headers, "traceparent")):
        headers.append(("traceparent", traceparent))
    return OutputRecord(topic, text.message_id.encode(), encode(prediction), headers)


def _rounded(value: float) -> float:
    """A number that is not negative, to six places; `round` takes eight times as long."""
    return int(value * 1e6 + 0.5) / 1e6


def _position(record: InputRecord) -> Position:
    return Position(topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp)


def _dead_letter(refused: Refused, origin: Origin, topic: str) -> OutputRecord:
    """The record as it came, with Kafka Connect's error headers (KIP-298) appended."""
    record = refused.record
    errors = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "connector.name": CONNECTOR,
        "task.id": origin.instance,
        "stage": "VALUE_CONVERTER" if refused.reason is not Reason.INFERENCE_FAILED else "TASK_PUT",
        "class.name": "worker.intake" if refused.reason is not Reason.INFERENCE_FAILED else "worker.model",
        "exception.class.name": refused.reason.value,
        "exception.message": refused.explanation,
    }
    headers = [
        *record.headers,
        *((f"__connect.errors.{name}", text.encode()) for name, text in errors.items()),
    ]
    return OutputRecord(topic, record.key, record.value, headers, record.timestamp)


def measure(outcomes: Sequence[Outcome], origin: Origin, now_s: float, time: str) -> TransactionMeasured:
    """What one transaction covers. `now_s`: seconds since the epoch, when the transaction begins."""
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    first, last = outcomes[0].record, outcomes[-1].record
    return TransactionMeasured(
        worker=origin.instance,
        model=origin.model,
        topic=first.topic,
        partition=first.partition,
        first_offset=first.offset,
        last_offset=last.offset,
        records=len(outcomes),
        labels=dict(Counter(best(outcome, origin.labels)[0] for outcome in scored)),
        dead_letters=dict(Counter(outcome.reason.value for outcome in refused)),
        truncated=sum(outcome.text.truncated for outcome in scored),
        tokens=sum(outcome.text.tokens for outcome in scored),
        padded_tokens=round(sum(outcome.padded_tokens for outcome in scored), 3),
        tokenize_s=round(sum(outcome.text.tokenize_s for outcome in scored), 6),
        queue_s=round(sum(outcome.queue_s for outcome in scored), 6),
        infer_s=round(sum(outcome.infer_s for outcome in scored), 6),
        latency=_histogram([now_s - outcome.record.timestamp / 1000 for outcome in outcomes]),
        began_at=time,
    )


def _histogram(seconds: list[float]) -> Histogram:
    counts = [0] * (len(LATENCY_EDGES_S) + 1)
    for value in seconds:
        counts[bisect_left(LATENCY_EDGES_S, value)] += 1
    return Histogram(
        edges=LATENCY_EDGES_S,
        counts=counts,
        sum=round(sum(seconds), 6),
        max=round(max(seconds, default=0.0), 6),
    )
