"""Whether the brokers can be reached, and let a worker do what it must."""

from collections.abc import Iterator, Mapping

from streamgauge.commands.doctor.checks import Found, check
from streamgauge.commands.doctor.picture import NotSeen, Picture, seen
from streamgauge.coordination import LOGS, impossible_logs
from streamgauge.stable_offset import OffsetFetchRequest_v7
from streamgauge.topic_ids import MetadataRequest_v10
from worker.transaction import BROKER_MARGIN_S

NEEDED_VERSIONS: Mapping[int, tuple[int, str]] = {
    MetadataRequest_v10.API_KEY: (MetadataRequest_v10.API_VERSION, "Metadata, which tells topics' ids"),
    OffsetFetchRequest_v7.API_KEY: (OffsetFetchRequest_v7.API_VERSION, "OffsetFetch with require_stable"),
    22: (0, "InitProducerId"),
    25: (0, "AddOffsetsToTxn"),
    26: (0, "EndTxn"),
    28: (0, "TxnOffsetCommit"),
}
"""By API key: the version that is needed, and what it is for."""


@check(
    "kafka-unreachable",
    why="Nothing works without a broker.",
    source="https://github.com/bitnami/bitnami-docker-kafka/issues/209",
)
def kafka_unreachable(picture: Picture) -> Iterator[Found]:
    """No broker answers at the bootstrap servers."""
    if picture.door.silence:
        yield Found(
            picture.door.silence,
            "start the brokers, or: export STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=HOST:PORT",
        )


@check(
    "kafka-login",
    why="Whoever is refused reads and writes nothing.",
    source="https://github.com/birdayz/kaf/issues/105",
)
def kafka_login(picture: Picture) -> Iterator[Found]:
    """The brokers refuse the login, the certificate, or the way of talking to them."""
    if picture.door.silence:
        raise NotSeen("no broker answers")
    if picture.door.refusal:
        yield Found(
            picture.door.refusal,
            "export STREAMGAUGE_KAFKA_SECURITY_PROTOCOL=… and what belongs to it: see infra/secured.md",
        )


@check(
    "kafka-address",
    why="After the first answer a client goes to the address that each broker names as its own, "
    "and a broker that is not reached there is not reached at all.",
    source="https://github.com/provectus/kafka-ui/issues/2021",
)
def kafka_address(picture: Picture) -> Iterator[Found]:
    """A broker names an address as its own at which nobody answers from here."""
    if picture.door.silence or picture.door.refusal:
        raise NotSeen("the brokers have not told their addresses")
    if picture.door.deaf:
        yield Found(
            f"nobody answers at {', '.join(picture.door.deaf)}, which brokers name as their own",
            "set advertised.listeners on these brokers to an address that is reached from here, and restart them",
        )


@check(
    "broker-version",
    why="Without these requests nobody knows which topic an offset is of, or where a transaction has left it.",
    source="https://github.com/obsidiandynamics/kafdrop/issues/134",
)
def broker_version(picture: Picture) -> Iterator[Found]:
    """A broker is too old: it lacks requests that exactly-once needs."""
    versions = seen(picture.cluster.versions)
    missing = [what for key, (version, what) in NEEDED_VERSIONS.items() if versions.get(key, -1) < version]
    if missing:
        yield Found(
            f"the brokers do not know these requests, or only older ones: {'; '.join(missing)}",
            "upgrade all brokers to Apache Kafka 3.6 or later",
        )


@check(
    "coordinator-log",
    why="Groups and transactions are kept in these topics. While they cannot be made, clients are told to try again, "
    "and every commit waits for ever.",
    source="https://github.com/Apicurio/apicurio-registry/issues/1147",
)
def coordinator_log(picture: Picture) -> Iterator[Found]:
    """The topic of groups or of transactions wants more replicas than there are brokers."""
    cluster = picture.cluster
    missing = LOGS.keys() - seen(cluster.topics).keys()
    if missing:
        for problem in impossible_logs(missing, seen(cluster.brokers), seen(cluster.config)):
            what, _semicolon, mend = problem.partition("; ")
            yield Found(what, mend)


@check(
    "transaction-timeout",
    why="A worker that asks for more than the brokers allow ends at its first partition.",
    source="https://github.com/j3-signalroom/apache_flink-kickstarter/issues/787",
)
def transaction_timeout(picture: Picture) -> Iterator[Found]:
    """The worker's transaction timeout is longer than the brokers allow."""
    asked_ms = round((picture.setup.worker.transaction_timeout_s + BROKER_MARGIN_S) * 1000)
    most_ms = _broker_number(picture, "transaction.max.timeout.ms")
    if asked_ms > most_ms:
        allowed_s = (most_ms - BROKER_MARGIN_S * 1000) / 1000
        mend = (
            f"export STREAMGAUGE_WORKER_TRANSACTION_TIMEOUT_S={allowed_s:g}"
            if allowed_s > 0
            else f"set transaction.max.timeout.ms={asked_ms} on the brokers, and restart them"
        )
        yield Found(
            f"a worker asks for transactions of {asked_ms} ms (its timeout and {BROKER_MARGIN_S:g} s), "
            f"but transaction.max.timeout.ms of the brokers is {most_ms}",
            mend,
        )


@check(
    "session-timeout",
    why="Brokers do not let a member into a group that asks for a session of another length.",
    source="https://github.com/dpkp/kafka-python/issues/837",
)
def session_timeout(picture: Picture) -> Iterator[Found]:
    """The worker's session timeout is outside what the brokers allow."""
    asked_ms = round(picture.setup.worker.session_timeout_s * 1000)
    least_ms = _broker_number(picture, "group.min.session.timeout.ms")
    most_ms = _broker_number(picture, "group.max.session.timeout.ms")
    if not least_ms <= asked_ms <= most_ms:
        nearest_s = min(max(asked_ms, least_ms), most_ms) / 1000
        yield Found(
            f"a worker asks for a session of {asked_ms} ms, but the brokers allow {least_ms} to {most_ms}",
            f"export STREAMGAUGE_WORKER_SESSION_TIMEOUT_S={nearest_s:g}",
        )


def _broker_number(picture: Picture, setting: str) -> int:
    """Raises NotSeen when the brokers do not tell it."""
    found = seen(picture.cluster.config).get(setting)
    if found is None:
        raise NotSeen(f"the brokers do not tell {setting}")
    return int(found)


CHECKS = (
    kafka_unreachable,
    kafka_login,
    kafka_address,
    broker_version,
    coordinator_log,
    transaction_timeout,
    session_timeout,
)
