"""The rules for topics, all of them and pure: what `topics create` makes, what worker and listener refuse.

Of most settings a guarantee needs a minimum: users may keep records longer and let them be larger. Few must have one
value. So nothing is ever shortened or lowered here. Topics are created by `streamgauge topics create` alone.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from streamgauge.settings import DAY_MS, TopicSettings

OUTPUT_MARGIN_BYTES = 65_536
"""A dead letter is its input record and headers of ours: outputs take this much more than the input."""
MINIMA = frozenset(
    {
        "max.message.bytes",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
    }
)
"""Settings of which more is as good; any other one must be equal."""
STAMPED_BY_THE_BROKER = {"message.timestamp.type": "LogAppendTime"}
"""Retention, windows, lag and latency go by timestamps. A producer's wrong clock, or a backfill with the times of last
year, must not delete texts before they are scored, expire or revive labels, or fire alerts."""
UNPACKED_BY_THE_BROKER = {"compression.type": "uncompressed"}
"""Where anybody may write. The broker then unpacks a producer's batch and holds its records to max.message.bytes.
Compressed, a record thousands of times that size would pass, and fill the memory of whoever reads it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its partitions and the configuration set on it (or, when described, in force)."""

    name: str
    partitions: int
    config: Mapping[str, str]
    replicas: int | None = None
    """Of one that exists: of its partition that has the fewest."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing `topics create` does: a new topic, more partitions, or other configuration."""

    topic: str
    what: str
    partitions: int | None = None
    config: Mapping[str, str] | None = None
    new: bool = False


class Violation(NamedTuple):
    """What a topic is not as a guarantee needs it."""

    topic: str
    what: str
    """The setting that is wrong; or `existence`, or `partitions`."""
    text: str


def desired(
    settings: TopicSettings, partitions: int, replication_factor: int, existing: Mapping[str, Topic]
) -> list[Topic]:
    """Every topic at least as the guarantees need it; the outputs go by the input as it is, which may be larger."""
    source = existing.get(settings.input)
    input_bytes = max(settings.max_message_bytes, int(source.config["max.message.bytes"]) if source else 0)
    partitions = max(partitions, source.partitions if source else 0)
    output_bytes = str(input_bytes + OUTPUT_MARGIN_BYTES)
    week = STAMPED_BY_THE_BROKER | {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}
    joined = week | {"retention.bytes": "-1", "retention.ms": str(settings.join_window_ms + DAY_MS)}
    wanted = {
        settings.results: joined | {"max.message.bytes": output_bytes},
        settings.audit: joined | {"max.message.bytes": output_bytes},
        settings.metrics: week | {"max.message.bytes": output_bytes},
        settings.feedback: joined | UNPACKED_BY_THE_BROKER,
        settings.dead_letter: week | {"max.message.bytes": output_bytes},
        # Last: a new partition of the input must find its partitions of the outputs.
        settings.input: week | UNPACKED_BY_THE_BROKER | {"max.message.bytes": str(input_bytes)},
    }
    return [
        Topic(name, partitions, _durable(existing.get(name), replication_factor) | config)
        for name, config in wanted.items()
    ]


def _durable(present: Topic | None, replication_factor: int) -> dict[str, str]:
    """Of a topic that exists its own replicas count: nothing could be written where they are fewer than it needs."""
    replicas = present.replicas if present and present.replicas else replication_factor
    return {"min.insync.replicas": "2"} if replicas > 2 else {}


def other_replicas(replication_factor: int | None, existing: Mapping[str, Topic]) -> str | None:
    """What to say of topics that exist and have another number of replicas than was asked for."""
    others = {name: topic for name, topic in existing.items() if topic.replicas != replication_factor}
    if not replication_factor or not others:
        return None
    named = ", ".join(f"{name} has {others[name].replicas}" for name in sorted(others))
    return (
        f"--replication-factor {replication_factor} changes nothing of {len(others)} topics that exist: {named}; "
        "Kafka's own kafka-reassign-partitions.sh gives them other replicas"
    )


def plan(wanted: list[Topic], existing: Mapping[str, Topic]) -> list[Change]:
    """What must be done so that `existing` is at least `wanted`; nothing becomes less, no other setting changes."""
    changes = []
    for topic in wanted:
        present = existing.get(topic.name)
        if present is None:
            changes.append(Change(topic.name, "create", topic.partitions, topic.config, new=True))
            continue
        if present.partitions < topic.partitions:
            what = f"partitions: {present.partitions} -> {topic.partitions}"
            changes.append(Change(topic.name, what, partitions=topic.partitions))
        other = dict(_unmet(present.config, topic.config))
        if other:
            what = ", ".join(f"{key}: {present.config.get(key)} -> {value}" for key, value in other.items())
            changes.append(Change(topic.name, what, config=other))
    return changes


def _unmet(present: Mapping[str, str], needed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The needed settings that are not met: of MINIMA at least so much must be there, of any other exactly this."""
    for key, value in needed.items():
        found = present.get(key)
        is_met = found is not None and _amount(found) >= _amount(value) if key in MINIMA else found == value
        if not is_met:
            yield key, value


def _amount(value: str) -> float:
    return math.inf if value == "-1" else int(value)


def worker_violations(settings: TopicSettings, existing: Mapping[str, Topic]) -> Iterator[Violation]:
    """Why a worker must not start on these topics; nothing when all is well."""
    source = existing.get(settings.input)
    if source is None:
        yield _missing(settings.input)
        return
    every = STAMPED_BY_THE_BROKER | {"cleanup.policy": "delete"}
    yield from _violations(source, every | UNPACKED_BY_THE_BROKER)
    at_least = str(int(source.config["max.message.bytes"]) + OUTPUT_MARGIN_BYTES)
    for name in settings.outputs:
        topic = existing.get(name)
        if topic is None:
            yield _missing(name)
            continue
        if topic.partitions < source.partitions:
            text = f"topic {name}: {topic.partitions} partitions, but {settings.input} has {source.partitions}"
            yield Violation(name, "partitions", text)
        yield from _violations(topic, every | {"max.message.bytes": at_least})


def listener_violations(settings: TopicSettings, existing: Mapping[str, Topic]) -> Iterator[Violation]:
    """Why a listener must not start on these topics: its numbers would not be a function of their retained records, or
    its memory would have no bound.
    """
    needed = STAMPED_BY_THE_BROKER | {
        "retention.ms": str(settings.join_window_ms + DAY_MS),
        "retention.bytes": "-1",
        "cleanup.policy": "delete",
    }
    for name in settings.joined:
        topic = existing.get(name)
        if topic is None:
            yield _missing(name)
        else:
            yield from _violations(topic, needed | (UNPACKED_BY_THE_BROKER if name == settings.feedback else {}))


def _missing(name: str) -> Violation:
    return Violation(name, "existence", f"topic {name} does not exist")


def _violations(topic: Topic, needed: Mapping[str, str]) -> Iterator[Violation]:
    for key, value in _unmet(topic.config, needed):
        least = "at least " if key in MINIMA and value != "-1" else ""
        yield Violation(
            topic.name, key, f"topic {topic.name}: {key} is {topic.config.get(key)}, but must be {least}{value}"
        )
