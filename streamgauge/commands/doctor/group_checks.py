"""Whether the workers' group does the work, alone, and whether others read what it writes as they should."""

import re
from collections import Counter
from collections.abc import Iterator

from streamgauge.commands.doctor.checks import Found, check
from streamgauge.commands.doctor.picture import Group, Member, Picture, seen
from streamgauge.settings import TopicSettings
from worker.progress import progress_of

OF_A_LIBRARY = re.compile(r"(rdkafka|sarama|kafkajs|kgo|(aiokafka|kafka-python|consumer|console-consumer)-.*)$")
"""Client ids that libraries take by themselves; a worker's is its instance's name."""


def _is_foreign(member: Member, topics: TopicSettings) -> bool:
    return member.topics not in (None, {topics.input}) or bool(OF_A_LIBRARY.match(member.client_id))


def workers(picture: Picture) -> list[Member]:
    """The members of the workers' group that may be workers. Raises NotSeen."""
    return [member for member in picture.workers_group.members if not _is_foreign(member, picture.setup.topics)]


@check(
    "group-start",
    why="A worker that does not know what was scored refuses to start: it would score texts twice, or skip some.",
    source="https://github.com/Parsely/pykafka/issues/504",
)
def group_start(picture: Picture) -> Iterator[Found]:
    """The workers' group has no committed offset for a partition, or one behind its end."""
    source, group, spans = picture.setup.topics.input, picture.setup.worker.group, seen(picture.cluster.spans)
    offsets, partitions = picture.workers_group.offsets, picture.topic(source).partitions
    own = {tp.partition: committed for tp, committed in offsets.items() if tp.topic == source}
    missing = [number for number in range(partitions) if number not in own]
    if missing and not picture.setup.worker.start_from:
        yield Found(
            f"group {group} has no committed offset for partitions {', '.join(map(str, missing))} of {source}",
            "streamgauge topics create",
        )
    for tp, span in spans.items():
        committed = own.get(tp.partition) if tp.topic == source else None
        if committed and committed.offset > span.end:
            progress = progress_of(committed)
            if progress is None or progress.input_id == seen(picture.cluster.input_id):
                servers = picture.setup.kafka.bootstrap_servers
                yield Found(
                    f"group {group} is at {committed.offset} of {source}-{tp.partition}, which ends at {span.end}",
                    f"kafka-consumer-groups.sh --bootstrap-server {servers} --delete-offsets --group {group} "
                    f"--topic {source}; then: streamgauge topics create",
                )


@check(
    "group-empty",
    why="Texts wait, and nobody scores them.",
    source="https://github.com/elastic/beats/issues/23077",
)
def group_empty(picture: Picture) -> Iterator[Found]:
    """Records wait in the input, and the workers' group has no member."""
    group, spans, source = picture.workers_group, seen(picture.cluster.spans), picture.setup.topics.input
    waiting = sum(
        max(0, spans[tp].end - max(committed.offset, spans[tp].first))
        for tp, committed in group.offsets.items()
        if tp.topic == source and tp in spans
    )
    if waiting and not group.members:
        yield Found(
            f"{waiting} records wait in {source}, and group {picture.setup.worker.group} has no member",
            "streamgauge worker",
        )


@check(
    "group-foreign",
    why="It is given partitions like a worker, and what is in them is never scored.",
    source="https://github.com/spring-projects/spring-kafka/issues/3784",
)
def group_foreign(picture: Picture) -> Iterator[Found]:
    """Another application is a member of the workers' group."""
    topics = picture.setup.topics
    foreign = [member for member in picture.workers_group.members if _is_foreign(member, topics)]
    if foreign:
        names = ", ".join(sorted({member.client_id for member in foreign}))
        yield Found(
            f"in group {picture.setup.worker.group} are members that are no workers: {names}",
            "give that application a group.id of its own; or, where it must keep this one, the workers: "
            "export STREAMGAUGE_WORKER_GROUP=ANOTHER, then: streamgauge topics create",
        )


@check(
    "instance-twice",
    why="A worker asks by its name whether a partition is still its own; with one name for two, both believe it is.",
    source="https://github.com/logstash-plugins/logstash-input-kafka/issues/166",
)
def instance_twice(picture: Picture) -> Iterator[Found]:
    """Two workers of the group have one name."""
    twice = [name for name, count in Counter(member.client_id for member in workers(picture)).items() if count > 1]
    if twice:
        yield Found(
            f"several workers are called {', '.join(sorted(twice))}",
            "unset STREAMGAUGE_WORKER_INSTANCE, and restart them: each makes a name of its own",
        )


@check(
    "workers-idle",
    why="A partition has one reader: the workers beyond cost memory, and do nothing.",
    source="https://github.com/confluentinc/confluent-kafka-dotnet/issues/975",
)
def workers_idle(picture: Picture) -> Iterator[Found]:
    """There are more workers than partitions."""
    partitions, count = picture.topic(picture.setup.topics.input).partitions, len(workers(picture))
    if count > partitions:
        yield Found(
            f"{count} workers share {partitions} partitions",
            f"streamgauge topics create --partitions {count}",
        )


@check(
    "records-deleted",
    why="They were never scored, and nothing brings them back.",
    source="https://github.com/quixio/quix-streams/issues/1114",
)
def records_deleted(picture: Picture) -> Iterator[Found]:
    """Records of the input were deleted before they were scored."""
    source, spans = picture.setup.topics.input, seen(picture.cluster.spans)
    lost = {
        tp.partition: spans[tp].first - committed.offset
        for tp, committed in picture.workers_group.offsets.items()
        # One alone may be a transaction's marker, as a worker takes it too.
        if tp.topic == source and tp in spans and spans[tp].first - committed.offset > 1
    }
    if lost:
        where = ", ".join(f"{count} of partition {number}" for number, count in sorted(lost.items()))
        yield Found(
            f"the group's next records of {source} do not exist any more: {where}",
            "streamgauge topics create, which keeps the input for a week at least; and start more workers",
        )


@check(
    "two-groups",
    why="Each text is scored by both, results and numbers count it twice, and neither dashboard shows why.",
    source="https://github.com/eddie-energy/eddie/issues/2404",
)
def two_groups(picture: Picture) -> Iterator[Found]:
    """Workers of another group work on the same topics."""
    own, topics = picture.setup.worker.group, picture.setup.topics
    others = [
        name
        for name, group in seen(picture.cluster.groups).items()
        if name != own and group.members and _has_scored(group, topics.input)
    ]
    if others:
        yield Found(
            f"beside {own}, workers of {', '.join(sorted(others))} score {topics.input}",
            "stop one of them; or give each topics of its own: export STREAMGAUGE_TOPIC_PREFIX=ANOTHER, "
            "then: streamgauge topics create",
        )


def _has_scored(group: Group, source: str) -> bool:
    """Whether an offset is one that a worker has committed: it says what was written with it."""
    return any(tp.topic == source and progress_of(committed) for tp, committed in group.offsets.items())


@check(
    "read-uncommitted",
    why="It reads results of transactions that may be undone, and then reads these texts' results again.",
    source="https://github.com/IBMStreams/streamsx.kafka/issues/192",
)
def read_uncommitted(picture: Picture) -> Iterator[Found]:
    """A consumer of an output has read beyond what is committed."""
    spans, outputs = seen(picture.cluster.spans), picture.setup.topics.outputs
    groups = seen(picture.cluster.groups)
    ahead = [
        name
        for name, group in groups.items()
        for tp, committed in group.offsets.items()
        # The offsets were asked for first: what was committed then, was at the end at that time or before.
        if tp.topic in outputs and tp in spans and committed.offset > spans[tp].end
    ]
    if ahead:
        yield Found(
            f"these groups have read what no transaction has committed: {', '.join(sorted(set(ahead)))}",
            "set isolation.level=read_committed in these consumers",
        )


CHECKS = (
    group_start,
    group_empty,
    group_foreign,
    instance_twice,
    workers_idle,
    records_deleted,
    two_groups,
    read_uncommitted,
)
