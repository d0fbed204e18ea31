"""Outcomes as the records that one transaction writes. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from streamgauge.events import (
    MAX_HEADERS,
    CoveredByModel,
    Header,
    Histogram,
    Metadata,
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
from worker.audit import Audit
from worker.dead_letters import refusal_headers
from worker.metrics import LATENCY_EDGES_S
from worker.outcomes import Headers, InputRecord, Outcome, Refused, Scored, Visible, by_model


def ce_source(group: str) -> str:
    """What a group's results and metric events have as CloudEvents source."""
    return f"/streamgauge/{group}"


_decode_metadata = msgspec.json.Decoder(Metadata).decode


class OutputRecord(msgspec.Struct, frozen=True):
    """A record to be written to the partition of its source. The broker stamps it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


MAX_TRACEPARENT_BYTES = 256
"""W3C's has 55. A larger one is not handed on: the result has to fit into its topic."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes: the group's name makes `ce_source`, the replica's name the metric events' key."""

    group: str
    instance: str


class Emptied(msgspec.Struct, frozen=True):
    """A record of which only the position goes on."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = b""
    headers: Headers = ()


def record_bytes(record: InputRecord | OutputRecord) -> int:
    """What it holds, without what a batch adds."""
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def fitting(outcome: Outcome, most_bytes: int) -> Outcome:
    """The outcome, or a dead letter without its record, where that is larger than the topic of dead letters takes.

    Such a record can only come compressed. Its transaction would fail, again and again.
    """
    if not isinstance(outcome, Refused) or record_bytes(outcome.record) <= most_bytes:
        return outcome
    record = outcome.record
    emptied = Emptied(record.topic, record.partition, record.offset, record.timestamp)
    return Refused(emptied, Reason.UNREADABLE, f"it is larger than {most_bytes} bytes when it is unpacked")


def output_records(
    outcomes: Sequence[Outcome],
    origin: Origin,
    audit: Audit,
    in_use: ModelRef,
    topics: TopicSettings,
    now_s: float,
    is_measured: Callable[[int], bool] = lambda _offset: False,
) -> list[OutputRecord]:
    """Results, audit and dead letters in offset order, then one metric event. `now_s`: seconds since the epoch.

    `in_use`: the model that the event names when nothing was scored. What is visible already is not written again, and
    what has been measured (asked by source offset) is not measured again.
    """
    time = utc_now()
    source = ce_source(origin.group)
    common = [
        attribute
        for attribute in cloud_event(id="", type="streamgauge.prediction.v1", source=source, time=time)
        if attribute[0] != "ce_id"
    ]
    records: list[OutputRecord] = []
    for outcome in outcomes:
        if isinstance(outcome, Scored):
            records += _predicted(outcome, audit, topics, common)
        elif isinstance(outcome, Refused):
            records.append(_dead_letter(outcome, origin, topics.dead_letter))
        elif found := outcome.shown.unpaired:
            other = topics.audit if found.topic == topics.results else topics.results
            records.append(OutputRecord(other, found.key, found.value, [*found.headers]))
    outcomes = [outcome for outcome in outcomes if not is_measured(outcome.record.offset)]
    if not outcomes:
        return records
    measured = measure(outcomes, origin, in_use, now_s, time)
    event_id = f"{measured.topic}-{measured.partition}-{measured.first_offset}"
    headers = cloud_event(id=event_id, type="streamgauge.transaction.v1", source=source, time=time)
    return [*records, OutputRecord(topics.metrics, origin.instance.encode(), encode(measured), headers)]


def _predicted(
    scored: Scored, audit: Audit, topics: TopicSettings, common: Sequence[Header]
) -> tuple[OutputRecord, ...]:
    """The result; if it is in the audit, the same record for that topic as well."""
    share = audit.share_of(scored.text.message_id)
    result = _result(scored, share, topics.results, common)
    return (result,) if share is None else (result, replace(result, topic=topics.audit))


def _result(scored: Scored, audit_share: float | None, topic: str, common: Sequence[Header]) -> OutputRecord:
    """`common`: the headers that all results of a transaction have."""
    text, record = scored.text, scored.record
    label, score = scored.best
    prediction = Prediction(
        id=text.message_id,
        label=label,
        score=_rounded(score),
        scores=dict(zip(scored.model.labels, map(_rounded, scored.probabilities), strict=True)),
        model=scored.model.ref,
        timings=Timings(
            tokenize_s=_rounded(text.tokenize_s),
            queue_s=_rounded(scored.queue_s),
            infer_s=_rounded(scored.infer_s),
        ),
        source=_position(record),
        tokens=text.tokens,
        truncated=text.truncated,
        metadata=_decode_metadata(text.metadata) if text.metadata else None,
        audit=audit_share,
    )
    event_id = f"{record.topic}-{record.partition}-{record.offset}"
    headers: list[Header] = [("ce_id", event_id.encode()), *common]
    traceparent = last_header(record.headers, "traceparent") if record.headers else None
    if traceparent and len(traceparent) <= MAX_TRACEPARENT_BYTES:
        headers.append(("traceparent", traceparent))
    return OutputRecord(topic, text.message_id.encode(), encode(prediction), headers)


def _rounded(value: float) -> float:
    """A number that is not negative, to six places; `round` takes eight times as long."""
    return int(value * 1e6 + 0.5) / 1e6


def _position(record: InputRecord) -> Position:
    return Position(topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp)


def _dead_letter(refused: Refused, origin: Origin, topic: str) -> OutputRecord:
    """The record as it came, of too many headers the first. Not its timestamp: retention goes by the broker's clock."""
    record = refused.record
    headers = [*record.headers[:MAX_HEADERS], *refusal_headers(refused, origin.group, origin.instance)]
    # Not every builder of batches takes a subclass of bytes.
    value = None if record.value is None else bytes(record.value)
    return OutputRecord(topic, record.key, value, headers)


def measure(
    outcomes: Sequence[Outcome], origin: Origin, in_use: ModelRef, now_s: float, time: str
) -> TransactionMeasured:
    """What one transaction covers. `now_s`: seconds since the epoch, when the transaction begins."""
    first, last = outcomes[0].record, outcomes[-1].record
    scored = sorted(_by_ref(outcomes).items(), key=lambda item: -len(item[1]))
    return TransactionMeasured(
        worker=origin.instance,
        model=scored[0][0] if scored else in_use,
        topic=first.topic,
        partition=first.partition,
        first_offset=first.offset,
        last_offset=last.offset,
        began_at=time,
        models=_parts(outcomes, scored, now_s) if len(scored) > 1 else (),
        **_covered(outcomes, now_s),
    )


def _by_ref(outcomes: Sequence[Outcome]) -> dict[ModelRef, list[Outcome]]:
    """What was scored, now or by a transaction before, by the model that did."""
    scored: dict[ModelRef, list[Outcome]] = {model.ref: [*own] for model, own in by_model(outcomes).items()}
    for outcome in outcomes:
        if isinstance(outcome, Visible) and outcome.shown.prediction:
            scored.setdefault(outcome.shown.prediction.model, []).append(outcome)
    return scored


def _parts(
    outcomes: Sequence[Outcome], scored: Sequence[tuple[ModelRef, list[Outcome]]], now_s: float
) -> list[CoveredByModel]:
    """Each model's part of a transaction; what was refused is in the first."""
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Scored) and not _prediction(outcome)]
    parts = [(model, [*own, *(() if number else refused)]) for number, (model, own) in enumerate(scored)]
    return [CoveredByModel(model=model, **_covered(own, now_s)) for model, own in parts]


def _prediction(outcome: Outcome) -> Prediction | None:
    """What stands in the results already."""
    return outcome.shown.prediction if isinstance(outcome, Visible) else None


def _covered(outcomes: Sequence[Outcome], now_s: float) -> dict[str, Any]:
    """The fields of `Covered`."""
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    reasons = [outcome.reason.value for outcome in outcomes if isinstance(outcome, Refused)]
    shown = [outcome.shown for outcome in outcomes if isinstance(outcome, Visible)]
    earlier = [each.prediction for each in shown if each.prediction]
    timings = [each.timings for each in earlier]
    tokens = sum(outcome.text.tokens for outcome in scored)
    earlier_tokens = sum(each.tokens for each in earlier)
    return {
        "records": len(outcomes),
        "labels": dict(Counter([*(outcome.best[0] for outcome in scored), *(each.label for each in earlier)])),
        "dead_letters": dict(Counter([*reasons, *(each.reason for each in shown if each.reason)])),
        "truncated": sum(outcome.text.truncated for outcome in scored) + sum(each.truncated for each in earlier),
        "tokens": tokens + earlier_tokens,
        # How much an earlier transaction's texts were padded nobody knows any more.
        "padded_tokens": round(sum(outcome.padded_tokens for outcome in scored) + earlier_tokens, 3),
        "tokenize_s": round(sum(each.text.tokenize_s for each in scored) + sum(each.tokenize_s for each in timings), 6),
        "queue_s": round(sum(each.queue_s for each in scored) + sum(each.queue_s for each in timings), 6),
        "infer_s": round(sum(each.infer_s for each in scored) + sum(each.infer_s for each in timings), 6),
        "latency": _histogram([_written_s(outcome, now_s) - outcome.record.timestamp / 1000 for outcome in outcomes]),
    }


def _written_s(outcome: Outcome, now_s: float) -> float:
    """When an outcome was written, in seconds since the epoch: now, unless it stands there already."""
    at_ms = outcome.shown.at_ms if isinstance(outcome, Visible) else None
    return at_ms / 1000 if at_ms else now_s


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
