"""What a doctor sees: settings, brokers, topics, groups, this machine, services, Prometheus. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from feedback_listener.settings import ListenerSettings
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topics import Topic
from worker.settings import WorkerSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unseen:
    """A part of the picture that could not be had."""

    because: str


class NotSeen(Exception):  # noqa: N818 - it is no error
    """A check needs a part that is Unseen; the message is the reason."""


def seen(part: T | Unseen) -> T:
    """A part that must be there. Raises NotSeen."""
    if isinstance(part, Unseen):
        raise NotSeen(part.because)
    return part


class Setup(NamedTuple):
    """The settings, as worker and listener would read them here."""

    kafka: KafkaSettings
    topics: TopicSettings
    worker: WorkerSettings
    listener: ListenerSettings


class Door(NamedTuple):
    """How far one gets towards the brokers. At most one of the first two is there."""

    silence: str | None = None
    """Why no broker answers at the bootstrap servers."""
    refusal: str | None = None
    """Why they do not let us in."""
    deaf: tuple[str, ...] = ()
    """Addresses, host:port, that brokers name as their own, and at which nobody answers."""


class Span(NamedTuple):
    """Offsets of a partition: the first record that is retained, and the end of what `read_committed` readers see."""

    first: int
    end: int


class Member(NamedTuple):
    """One of a group's members, as its coordinator tells."""

    client_id: str
    topics: frozenset[str] | None
    """What it has subscribed to; None while the group rebalances, and nobody tells."""


class Group(NamedTuple):
    """A consumer group: its members, and the offsets that it has committed."""

    state: str
    members: tuple[Member, ...] = ()
    offsets: Mapping[TopicPartition, OffsetAndMetadata] = {}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What brokers tell. `groups` is older than `spans`: what a group had committed, existed then."""

    brokers: int | Unseen
    versions: Mapping[int, int] | Unseen
    """By API key: the highest version of a request that all brokers know."""
    config: Mapping[str, str] | Unseen
    """The settings of one broker."""
    topics: Mapping[str, Topic] | Unseen
    """Of ours those that exist; and the brokers' own, of groups and transactions."""
    replicas: Mapping[str, int] | Unseen
    """Of these topics: how many copies its partitions have at least."""
    input_id: str | Unseen
    """A topic made anew has another one."""
    groups: Mapping[str, Group] | Unseen
    spans: Mapping[TopicPartition, Span] | Unseen
    """Of our topics' partitions."""
    ahead_ms: int | Unseen
    """How much later than our clock a record is that the brokers have stamped; 0: none is."""

    @classmethod
    def unseen(cls, because: str) -> "Cluster":
        """When nobody can be asked."""
        return cls(*[Unseen(because)] * 9)


class Store(NamedTuple):
    """Where the listener's file is to be."""

    path: str
    exists_in: str
    """The nearest folder that exists."""
    is_writable: bool
    filesystem: str
    """Its type, as the system calls it."""
    free_bytes: int
    size_bytes: int
    """Of the file as it is; 0 when there is none."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this command runs: what it would give to a worker and a listener."""

    cores: float
    """By affinity and quota."""
    memory_bytes: int | Unseen
    open_files: int | Unseen
    store: Store | Unseen
    model_problem: str | None
    """Why the worker could not start with its model."""


class Sample(NamedTuple):
    """One series of a scrape."""

    name: str
    labels: Mapping[str, str]
    value: float


class Answer(NamedTuple):
    """What came from an address at which a service is expected."""

    service: str
    """`worker` or `listener`."""
    url: str
    samples: tuple[Sample, ...] | None
    """None: whoever answers is not that service."""
    skew_s: float | None = None
    """How much its clock is ahead of ours at least; negative: behind. None: it did not tell."""


class Prometheus(NamedTuple):
    """What its API tells."""

    rule_groups: frozenset[str]
    failing_rules: Mapping[str, str]
    """By name, the last error."""
    targets_up: Mapping[str, int]
    """How many answer, by job; a job without a target is not there."""
    alertmanagers: int
    listened: frozenset[tuple[str, int]]
    """Topics and partitions that a scraped listener reads."""
    models: frozenset[str]
    """Digests of the models that scraped workers use."""
    skew_s: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it."""

    setup: Setup
    door: Door
    cluster: Cluster
    machine: Machine
    answers: tuple[Answer, ...]
    """Of those services that were expected and answered."""
    prometheus: Prometheus | Unseen

    def of(self, service: str) -> list[tuple[Sample, ...]]:
        """What the workers or the listeners show. Raises NotSeen when none of them answers."""
        found = [answer.samples for answer in self.answers if answer.service == service and answer.samples is not None]
        if not found:
            raise NotSeen(f"no {service} answers")
        return found

    def topic(self, name: str) -> Topic:
        """Raises NotSeen when it does not exist."""
        topics = seen(self.cluster.topics)
        if name not in topics:
            raise NotSeen(f"topic {name} does not exist")
        return topics[name]

    @property
    def workers_group(self) -> Group:
        """The group that the workers' settings name; one without members and offsets when there is none."""
        return seen(self.cluster.groups).get(self.setup.worker.group, Group("Dead"))
