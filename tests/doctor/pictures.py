"""A sound set-up as a doctor sees it, and how parts of it are replaced."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from feedback_listener.settings import ListenerSettings, Shard
from streamgauge.commands.doctor.broker_checks import NEEDED_VERSIONS
from streamgauge.commands.doctor.picture import (
    Answer,
    Cluster,
    Door,
    Group,
    Machine,
    Member,
    Picture,
    Prometheus,
    Sample,
    Setup,
    Span,
    Store,
)
from streamgauge.commands.doctor.prometheus_checks import LISTENER_JOB, RULE_GROUPS, WORKER_JOB
from streamgauge.coordination import LOGS
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topics import Topic, desired
from worker.progress import Progress, Stretch
from worker.settings import WorkerSettings

GROUP = "streamgauge"
TOPICS = TopicSettings()
PARTITIONS = 4
RETAINED, END = 100, 1000
INPUT_ID = "an id"
DIGEST = "sha256:1"
MODEL = "m@1"
CONFIG = {
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.max.timeout.ms": "900000",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
}


def setup(**worker: Any) -> Setup:
    given: dict[str, Any] = {"group": GROUP, "model_slots": 2} | worker
    settings = WorkerSettings(**given)
    return Setup(KafkaSettings(), TOPICS, settings, ListenerSettings(store=Path("/var/lib/listener.sqlite")))


def committed(offset: int, input_id: str = INPUT_ID) -> OffsetAndMetadata:
    """As a worker commits it."""
    outputs = {name: Stretch("another id", 0, 0) for name in TOPICS.outputs}
    return Progress(input_id=input_id, first=max(0, offset - 1), next=offset, outputs=outputs).committed()


def input_offsets(offset: int = END) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(TOPICS.input, number): committed(offset) for number in range(PARTITIONS)}


def worker_member(number: int) -> Member:
    return Member(f"host-{number}", frozenset({TOPICS.input}))


def cluster(partitions: int = PARTITIONS) -> Cluster:
    """Three brokers, with two workers at work."""
    topics = {topic.name: topic for topic in desired(TOPICS, partitions, 3, {})}
    topics |= {log: Topic(log, 50, {"min.insync.replicas": "2"}) for log in LOGS}
    group = Group("Stable", (worker_member(0), worker_member(1)), input_offsets())
    return Cluster(
        brokers=3,
        versions={key: version for key, (version, _what) in NEEDED_VERSIONS.items()},
        config=CONFIG,
        topics=topics,
        replicas=dict.fromkeys(topics, 3),
        input_id=INPUT_ID,
        groups={GROUP: group},
        spans={
            TopicPartition(name, number): Span(RETAINED, END) for name in TOPICS.every for number in range(partitions)
        },
        ahead_ms=0,
    )


def listener_samples(numbers: Mapping[str, float] = {}) -> tuple[Sample, ...]:
    """What a ready listener shows that reads all partitions; by default of texts with labels that match."""
    usual = {"predictions": 1000, "judged": 200, "unknown_class": 1, "recent": 200, "old": 0, "matched": 199}
    shown = {**usual, **numbers}
    of = {"model": MODEL, "partition": "0", "window": "24h"}
    matched = [
        Sample("streamgauge_matched_labels", {"partition": str(number), "age": age}, 0)
        for number in range(PARTITIONS)
        for age in ("recent", "old")
        if number or age == "old"
    ]
    return (
        Sample("streamgauge_listener_ready", {}, 1),
        Sample("streamgauge_predictions", of, shown["predictions"]),
        Sample("streamgauge_judged_predictions", of | {"expected": "A", "predicted": "A"}, shown["judged"]),
        Sample("streamgauge_prediction_labels", of | {"outcome": "unknown_class"}, shown["unknown_class"]),
        Sample("streamgauge_labels", {"age": "recent"}, shown["recent"]),
        Sample("streamgauge_labels", {"age": "old"}, shown["old"]),
        Sample("streamgauge_matched_labels", {"partition": "0", "age": "recent"}, shown["matched"]),
        *matched,
    )


def worker_samples(digest: str = DIGEST) -> tuple[Sample, ...]:
    return (
        Sample("streamgauge_worker_ready", {}, 1),
        Sample("streamgauge_model_info", {"model": MODEL, "digest": digest}, 1),
    )


def sound() -> Picture:
    """All is seen, and all is well."""
    return Picture(
        setup=setup(),
        door=Door(),
        cluster=cluster(),
        machine=Machine(
            cores=4,
            memory_bytes=2 * 2**30,
            open_files=1024,
            store=Store("/var/lib/listener.sqlite", "/var/lib", True, "ext4", 100 * 2**30, 2**20),
            model_problem=None,
        ),
        answers=(
            Answer("worker", "http://127.0.0.1:8001", worker_samples(), 0.0),
            Answer("listener", "http://127.0.0.1:8002", listener_samples(), 0.0),
        ),
        prometheus=Prometheus(
            rule_groups=RULE_GROUPS,
            failing_rules={},
            targets_up={WORKER_JOB: 2, LISTENER_JOB: 1},
            alertmanagers=1,
            listened=frozenset((TOPICS.results, number) for number in range(PARTITIONS)),
            models=frozenset({DIGEST}),
            skew_s=0.0,
        ),
    )


def with_setup(picture: Picture, **sections: Any) -> Picture:
    return replace(picture, setup=picture.setup._replace(**sections))


def with_worker(picture: Picture, **settings: Any) -> Picture:
    return replace(picture, setup=setup(**settings))


def with_cluster(picture: Picture, **parts: Any) -> Picture:
    return replace(picture, cluster=replace(picture.cluster, **parts))


def with_machine(picture: Picture, **parts: Any) -> Picture:
    return replace(picture, machine=replace(picture.machine, **parts))


def with_store(picture: Picture, **parts: Any) -> Picture:
    assert isinstance(picture.machine.store, Store)
    return with_machine(picture, store=picture.machine.store._replace(**parts))


def with_prometheus(picture: Picture, **parts: Any) -> Picture:
    assert isinstance(picture.prometheus, Prometheus)
    return replace(picture, prometheus=picture.prometheus._replace(**parts))


def with_group(picture: Picture, **parts: Any) -> Picture:
    """With another workers' group."""
    assert isinstance(picture.cluster.groups, dict)
    group = picture.cluster.groups[GROUP]._replace(**parts)
    return with_cluster(picture, groups=picture.cluster.groups | {GROUP: group})


def with_another(picture: Picture, name: str, group: Group) -> Picture:
    """With one more group."""
    assert isinstance(picture.cluster.groups, dict)
    return with_cluster(picture, groups=picture.cluster.groups | {name: group})


def with_config(picture: Picture, **settings: str) -> Picture:
    """With other settings of the brokers; `_` stands for a dot."""
    assert isinstance(picture.cluster.config, dict)
    return with_cluster(picture, config=picture.cluster.config | dotted(settings))


def with_topic(picture: Picture, name: str, partitions: int | None = None, **settings: str) -> Picture:
    """With one topic changed."""
    assert isinstance(picture.cluster.topics, dict)
    topic = picture.cluster.topics[name]
    changed = Topic(name, partitions or topic.partitions, {**topic.config, **dotted(settings)})
    return with_cluster(picture, topics=picture.cluster.topics | {name: changed})


def without_topic(picture: Picture, name: str) -> Picture:
    assert isinstance(picture.cluster.topics, dict)
    return with_cluster(picture, topics={key: topic for key, topic in picture.cluster.topics.items() if key != name})


def with_spans(picture: Picture, name: str, span: Span) -> Picture:
    """With another span in each partition of a topic."""
    assert isinstance(picture.cluster.spans, dict)
    changed = {tp: span if tp.topic == name else before for tp, before in picture.cluster.spans.items()}
    return with_cluster(picture, spans=changed)


def with_answers(picture: Picture, *answers: Answer) -> Picture:
    return replace(picture, answers=answers)


def with_labels(picture: Picture, **numbers: float) -> Picture:
    """With a listener that shows other numbers."""
    worker, listener = picture.answers
    return with_answers(picture, worker, listener._replace(samples=listener_samples(numbers)))


def dotted(settings: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in settings.items()}


def sharded(picture: Picture, shard: Shard) -> Picture:
    return with_setup(picture, listener=picture.setup.listener.model_copy(update={"shard": shard}))
