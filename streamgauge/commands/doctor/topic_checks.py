"""Whether the topics are as guarantees need them: by the rules of `streamgauge/topics.py`, and by their replicas."""

from collections.abc import Iterator

from streamgauge.commands.doctor.checks import Check, Found, check
from streamgauge.commands.doctor.picture import Picture, seen
from streamgauge.topics import listener_violations, worker_violations

ENOUGH_BROKERS = 3
"""From so many on, one of them can be lost without harm."""
TRANSACTION_LOG = "__transaction_state"


def _by_rule(name: str, *settings: str, looks_for: str, why: str, source: str) -> Check:
    """A check that looks for violations of a rule that is written elsewhere."""

    def look(picture: Picture) -> Iterator[Found]:
        existing, topics = seen(picture.cluster.topics), picture.setup.topics
        every = [*worker_violations(topics, existing), *listener_violations(topics, existing)]
        texts = dict.fromkeys(found.text for found in every if found.what in settings)
        if texts:
            yield Found("; ".join(texts), "streamgauge topics create")

    look.__doc__ = looks_for
    return check(name, why=why, source=source)(look)


topic_missing = _by_rule(
    "topic-missing",
    "existence",
    looks_for="A topic does not exist.",
    why="Worker and listener refuse to start; a client that makes topics by itself would make it with other settings.",
    source="https://github.com/confluentinc/librdkafka/issues/1201",
)
output_partitions = _by_rule(
    "output-partitions",
    "partitions",
    looks_for="An output has fewer partitions than the input.",
    why="What is read from partition p is written to partition p, so the input's last partitions could not be scored.",
    source="https://github.com/confluentinc/ksql/issues/966",
)
topic_timestamps = _by_rule(
    "topic-timestamps",
    "message.timestamp.type",
    looks_for="Producers' clocks stamp a topic.",
    why="Retention, windows, lag and latency go by these times: one wrong clock deletes texts before they are scored.",
    source="https://github.com/confluentinc/librdkafka/issues/1238",
)
topic_cleanup = _by_rule(
    "topic-cleanup",
    "cleanup.policy",
    looks_for="A topic is compacted.",
    why="Of the records that share a key, compaction keeps one: texts, results and labels disappear.",
    source="https://github.com/redpanda-data/documentation/issues/1151",
)
topic_compression = _by_rule(
    "topic-compression",
    "compression.type",
    looks_for="The input or the feedback topic keeps producers' compression.",
    why="Then the size limit is one of compressed records, and a megabyte of them can fill a worker's memory.",
    source="https://github.com/twmb/franz-go/issues/70",
)
output_size = _by_rule(
    "output-size",
    "max.message.bytes",
    looks_for="An output takes smaller records than the input.",
    why="A large text that is refused becomes a dead letter. That cannot be written, and its partition stands still.",
    source="https://github.com/SeldonIO/seldon-core/pull/5126",
)
label_retention = _by_rule(
    "label-retention",
    "retention.ms",
    "retention.bytes",
    looks_for="Results or labels are not kept for as long as a label may come.",
    why="A label whose prediction is gone judges nothing: the accuracy shown is that of the labels that came early.",
    source="https://github.com/tulios/kafkajs/issues/1119",
)


@check(
    "in-sync",
    why="Such a topic takes no record at all: producers are told to try again, for ever.",
    source="https://github.com/faust-streaming/faust/issues/390",
)
def in_sync(picture: Picture) -> Iterator[Found]:
    """A topic wants more replicas in sync than it has."""
    topics, replicas = seen(picture.cluster.topics), seen(picture.cluster.replicas)
    for name, topic in topics.items():
        wanted = int(topic.config.get("min.insync.replicas", 1))
        if wanted > replicas.get(name, wanted):
            servers = picture.setup.kafka.bootstrap_servers
            yield Found(
                f"topic {name} wants {wanted} replicas in sync, and has {replicas[name]}",
                f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name} "
                f"--add-config min.insync.replicas={max(1, replicas[name] - 1)}",
            )
    if TRANSACTION_LOG not in topics:
        yield from _in_sync_later(picture)


def _in_sync_later(picture: Picture) -> Iterator[Found]:
    """Of the transactions' topic, which is made when it is first needed."""
    setting = "transaction.state.log"
    config = seen(picture.cluster.config)
    wanted = int(config.get(f"{setting}.min.isr", 1))
    replicas = int(config.get(f"{setting}.replication.factor", wanted))
    if wanted > replicas:
        yield Found(
            f"{TRANSACTION_LOG} will want {wanted} replicas in sync, and have {replicas}",
            f"set {setting}.min.isr={max(1, replicas - 1)} on the brokers, and restart them",
        )


@check(
    "topic-replicas",
    why="The broker that has it may be lost, and with it the texts that were not scored, and all that was.",
    source="https://github.com/bigstack-oss/cubecos/issues/672",
)
def topic_replicas(picture: Picture) -> Iterator[Found]:
    """There are three brokers or more, and a topic is on one of them alone."""
    brokers, replicas = seen(picture.cluster.brokers), seen(picture.cluster.replicas)
    alone = [name for name in picture.setup.topics.every if replicas.get(name) == 1]
    if brokers >= ENOUGH_BROKERS and alone:
        servers = picture.setup.kafka.bootstrap_servers
        yield Found(
            f"there are {brokers} brokers, but one copy of {', '.join(alone)}",
            f"kafka-reassign-partitions.sh --bootstrap-server {servers} --execute "
            "--reassignment-json-file FILE, which names three brokers a partition; then: streamgauge topics create",
        )


CHECKS = (
    topic_missing,
    output_partitions,
    topic_timestamps,
    topic_cleanup,
    topic_compression,
    output_size,
    label_retention,
    in_sync,
    topic_replicas,
)
