"""`streamgauge reconcile --at`: every number, interval and alarm as it was at a past moment, from the topics alone."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import sqrt
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from rich.console import Console
from rich.table import Table

from feedback_listener.audit import Terms
from feedback_listener.confidence_sequence import Interval
from feedback_listener.join import WINDOWS
from feedback_listener.recount import recount
from feedback_listener.recount_reading import matters_since_ms, records_before
from feedback_listener.recount_records import Values, series_of
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client, answered
from streamgauge.lifecycle import clock_ms
from streamgauge.provisioning import check_exist
from streamgauge.settings import DAY_MS, KafkaSettings, TopicSettings
from streamgauge.terminal import cell
from streamgauge.topic_reading import topic_reader

CLAIMS = {
    "StreamgaugeAccuracyBelowFloor": "streamgauge_audit_level_evidence_log10",
    "StreamgaugeConceptDrift": "streamgauge_audit_drift_evidence_log10",
}
"""The alerts that begin with what follows from the topics, and the evidence that each goes by. They stay for six hours
after it. Other alerts go by how long Prometheus has seen something.
"""
Z_95 = 1.959964


class Moment(NamedTuple):
    """What was known at a moment, and what it follows from."""

    at_ms: int
    positions: Mapping[TopicPartition, int]
    """The records before these offsets."""
    digests: Mapping[str, set[str]]
    """By model."""
    numbers: Values
    """As a listener would have exported them that had read all partitions."""
    threshold_log10: float


class Share(NamedTuple):
    """How many of some predictions were right."""

    right: int
    judged: int

    @property
    def interval(self) -> Interval | None:
        """Wilson's, 95 %: for one look."""
        return wilson(*self) if self.judged else None


def wilson(right: int, n: int) -> Interval:
    """Wilson's score interval of a proportion (1927), 95 %; `n` is positive."""
    mean, spread = right / n, Z_95**2 / n
    centre, half = mean + spread / 2, Z_95 * sqrt(mean * (1 - mean) / n + spread / (4 * n))
    return Interval((centre - half) / (1 + spread), (centre + half) / (1 + spread))


async def moment(kafka: KafkaSettings, topics: TopicSettings, terms: Terms, at_ms: int) -> Moment:
    """A record counts from when the broker took it. Raises StreamgaugeError when not all that matters is retained."""
    async with admin_client(kafka) as admin:
        found = await check_exist(admin, topics.joined, "Read")
    partitions = [TopicPartition(name, number) for name, count in found.items() for number in range(count)]
    since_ms, kept_ms = matters_since_ms(at_ms, terms.window_ms), clock_ms() - terms.window_ms - DAY_MS
    async with topic_reader(kafka) as consumer:
        await answered(kafka, _check_retained(consumer, partitions, since_ms, kept_ms), "what is retained")
        ends = await consumer.end_offsets(partitions)
        later = await consumer.offsets_for_times(dict.fromkeys(partitions, at_ms + 1))
        positions = {tp: min(later[tp].offset, end) if later[tp] else end for tp, end in ends.items()}
        records = await records_before(kafka, consumer, topics, positions, since_ms)
    return Moment(at_ms, positions, records.digests, recount(records, at_ms, terms), terms.threshold_log10)


async def _check_retained(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since_ms: int, kept_ms: int
) -> None:
    """Nothing from `since_ms` on may have been deleted. Brokers delete nothing from `kept_ms` on; of a partition of
    which something was deleted, what is left must begin before.
    """
    if since_ms >= kept_ms:
        return
    begins = await consumer.beginning_offsets(partitions)
    firsts = await consumer.offsets_for_times(dict.fromkeys(partitions, 0))
    for tp, begin in begins.items():
        if begin and (firsts[tp] is None or firsts[tp].timestamp > since_ms):
            kept = f"begins at {time_text(firsts[tp].timestamp)}" if firsts[tp] else "is empty"
            raise StreamgaugeError(
                f"{tp.topic}-{tp.partition} {kept}: it may not hold all that mattered then, from {time_text(since_ms)} "
                "on; a longer retention.ms of the topic keeps more"
            )


def shares(numbers: Values, model: str, window: str) -> dict[str, Share]:
    """Of all labels and of the audit."""
    judged = right = 0.0
    for (name, labels), n in numbers.items():
        of = dict(labels)
        if name == "streamgauge_judged_predictions" and (of["model"], of["window"]) == (model, window):
            judged += n
            right += n if of["expected"] == of["predicted"] else 0
    audit = (
        numbers.get(series_of(f"streamgauge_audit_{name}", model=model, window=window), 0)
        for name in ("correct", "judged")
    )
    return {"labels": Share(int(right), int(judged)), "audit": Share(*map(int, audit))}


class Evidence(NamedTuple):
    """Against one claim."""

    log10: float
    threshold_log10: float

    @property
    def is_enough(self) -> bool:
        """Whether the alert begins, or goes on."""
        return self.log10 >= self.threshold_log10


def alarms(found: Moment, model: str) -> dict[str, Evidence]:
    """By the names of the alerts."""
    return {
        alert: Evidence(found.numbers.get(series_of(name, model=model), 0), found.threshold_log10)
        for alert, name in CLAIMS.items()
    }


def as_json(found: Moment) -> dict[str, Any]:
    """Everything, as one JSON object."""
    return {
        "at": time_text(found.at_ms),
        "at_ms": found.at_ms,
        "positions": {f"{tp.topic}-{tp.partition}": offset for tp, offset in sorted(found.positions.items())},
        "models": {model: _model_as_json(found, model) for model in models_of(found.numbers)},
        "gauges": [
            {"name": name, "labels": dict(labels), "value": value}
            for (name, labels), value in sorted(found.numbers.items())
        ],
    }


def _model_as_json(found: Moment, model: str) -> dict[str, Any]:
    every = {window: shares(found.numbers, model, window) for window in WINDOWS}
    return {
        "digests": sorted(found.digests.get(model, ())),
        "accuracy": {
            window: {
                kind: {**share._asdict(), "wilson": share.interval} for kind, share in of_window.items() if share.judged
            }
            for window, of_window in every.items()
        },
        "confidence_sequence": sequence(found.numbers, model),
        "alarms": {
            alert: {**against._asdict(), "is_enough": against.is_enough}
            for alert, against in alarms(found, model).items()
        },
    }


def models_of(numbers: Values) -> list[str]:
    """By name, all that these numbers are of."""
    return sorted({of["model"] for _name, labels in numbers if "model" in (of := dict(labels))})


def sequence(numbers: Values, model: str) -> Interval | None:
    """The audit's, of all looks together; None before there is a label."""
    low, high = (numbers.get(series_of(f"streamgauge_audit_accuracy_{end}", model=model)) for end in ("low", "high"))
    return None if high is None else Interval(low or 0.0, high)


def time_text(at_ms: int) -> str:
    """Of milliseconds since the epoch, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def report_moment(
    kafka: KafkaSettings, topics: TopicSettings, terms: Terms, at_ms: int, *, is_json: bool
) -> None:
    """Print it as tables, or as one JSON object."""
    found = await moment(kafka, topics, terms, at_ms)
    if is_json:
        print(json.dumps(as_json(found)))  # noqa: T201
        return
    console = Console(soft_wrap=True)
    console.print(cell(f"as of {time_text(at_ms)}: the records before {', '.join(_positions(found))}"))
    for model in models_of(found.numbers):
        console.print()
        console.print(cell(f"{model} {' '.join(sorted(found.digests.get(model, ())))}"))
        console.print(_table(found.numbers, model))
        if interval := sequence(found.numbers, model):
            console.print(f"confidence sequence of the audit: {interval.low:.1%} to {interval.high:.1%}")
        for alert, against in alarms(found, model).items():
            verdict = "enough" if against.is_enough else "not enough"
            console.print(f"{alert}: evidence 10^{against.log10:.2f} of 10^{against.threshold_log10:.2f}, {verdict}")


def _positions(found: Moment) -> Iterator[str]:
    return (f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in sorted(found.positions.items()))


def _table(numbers: Values, model: str) -> Table:
    table = Table("window", "judged", "right", "interval of one look", "audited", "right", "interval of one look")
    for window in WINDOWS:
        row = [text for share in shares(numbers, model, window).values() for text in _cells(share)]
        table.add_row(window, *row)
    return table


def _cells(share: Share) -> tuple[str, str, str]:
    if not share.interval:
        return "0", "", ""
    low, high = share.interval
    return str(share.judged), f"{share.right / share.judged:.1%}", f"{low:.1%} to {high:.1%}"
