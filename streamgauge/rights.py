"""Who needs which rights on a Kafka that asks: the least, by role. And what is said when one is missing.

The rights are Kafka's ACLs (https://kafka.apache.org/documentation/#operations_in_kafka); Read, Write and Alter
each bring Describe along, AlterConfigs brings DescribeConfigs.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streamgauge.denials import DENIALS, leaves
from streamgauge.errors import AccessDenied, StreamgaugeError, TopicsUnfit
from streamgauge.kafka import persistently
from streamgauge.settings import TopicSettings
from streamgauge.topic_ids import DESCRIBE, allowed_operations

log = structlog.get_logger(__name__)

COORDINATOR_TIMEOUT_S = 10.0
"""The first question for a group makes a broker create the topic of its coordinator."""

Resource = Literal["topic", "group", "transactionalId"]
"""As Strimzi writes them."""
Operation = Literal["Read", "Write", "Create", "Alter", "Describe", "DescribeConfigs", "AlterConfigs"]
CODES: Mapping[Operation, int] = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Alter": 7,
    "Describe": DESCRIBE,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}
"""Of Kafka's AclOperation."""


class Right(NamedTuple):
    """What one may do with a resource, or with all whose names begin so."""

    resource: Resource
    name: str
    operations: tuple[Operation, ...]
    is_prefix: bool = False


Rights = Sequence[Right]


def worker(topics: TopicSettings, group: str) -> Rights:
    return [
        Right("topic", topics.input, ("Read", "DescribeConfigs")),
        *(Right("topic", name, ("Read", "Write", "DescribeConfigs")) for name in topics.outputs),
        *_moving(group),
    ]


def listener(topics: TopicSettings, _group: str = "") -> Rights:
    return [Right("topic", name, ("Read", "DescribeConfigs")) for name in topics.joined]


def producer(topics: TopicSettings, _group: str) -> Rights:
    """For `produce`."""
    return [Right("topic", topics.input, ("Write",))]


def labeller(topics: TopicSettings, _group: str) -> Rights:
    """For `feedback`."""
    return [Right("topic", topics.feedback, ("Write",))]


def auditor(topics: TopicSettings, _group: str = "") -> Rights:
    """For `audit`, which asks for labels."""
    return [*auditing(topics), Right("topic", topics.feedback, ("Write",))]


def auditing(topics: TopicSettings) -> Rights:
    """For `audit` where it only lists what is to be labelled."""
    return [Right("topic", name, ("Read",)) for name in (topics.audit, topics.feedback, topics.input)]


def reader(topics: TopicSettings, group: str) -> Rights:
    """For `tail`, `stats`, `accuracy`, `reconcile` and `top`."""
    reading = [Right("topic", name, ("Read",)) for name in (*topics.outputs, topics.feedback)]
    return [*reading, *looking_at_group(topics, group)]


def looking_at_group(topics: TopicSettings, group: str) -> Rights:
    """For whoever asks who is in the workers' group, and how far it is."""
    return [Right("topic", topics.input, ("Describe",)), Right("group", group, ("Describe",))]


def page(topics: TopicSettings, _group: str = "") -> Rights:
    """For `app`, which sends texts and labels, and reads everything."""
    return [
        *(Right("topic", name, ("Read",)) for name in (*topics.outputs, topics.feedback, topics.input)),
        *(Right("topic", name, ("Write",)) for name in (topics.input, topics.feedback)),
    ]


def operator(topics: TopicSettings, group: str) -> Rights:
    """For `topics create`, `skip` and `replay`."""
    changing = [Right("topic", name, ("Create", "Alter", "AlterConfigs")) for name in topics.every]
    return [*looking(topics, group), *changing, *replaying(topics, group)]


def looking(topics: TopicSettings, group: str) -> Rights:
    """For `topics create` where all topics are as they must be; it starts the group."""
    return [*moving(topics, group), *(Right("topic", name, ("Describe", "DescribeConfigs")) for name in topics.every)]


def moving(topics: TopicSettings, group: str) -> Rights:
    """For `skip`, and whatever moves a group's offsets: each under its partition's transactional id."""
    return [Right("topic", topics.input, ("Read",)), *_moving(group)]


def replaying(topics: TopicSettings, group: str) -> Rights:
    """For `replay`."""
    replays = f"{group}.replay."
    return [
        Right("topic", topics.dead_letter, ("Read",)),
        Right("topic", topics.input, ("Write", "DescribeConfigs")),
        Right("group", replays, ("Read",), is_prefix=True),
        Right("transactionalId", replays, ("Write",), is_prefix=True),
    ]


def _moving(group: str) -> Rights:
    return [Right("group", group, ("Read",)), Right("transactionalId", f"{group}/", ("Write",), is_prefix=True)]


ROLES: Mapping[str, Callable[[TopicSettings, str], Rights]] = {
    "worker": worker,
    "listener": listener,
    "producer": producer,
    "labeller": labeller,
    "auditor": auditor,
    "reader": reader,
    "page": page,
    "operator": operator,
}
"""By the names that `streamgauge acls --for` takes: from the topics and the workers' group to the rights."""


def merged(rights: Rights) -> Rights:
    """One entry a resource, with all that is wanted of it, less what that brings along."""
    operations: dict[tuple[Resource, str, bool], dict[Operation, None]] = {}
    for right in rights:
        wanted = operations.setdefault((right.resource, right.name, right.is_prefix), {})
        wanted.update(dict.fromkeys(right.operations))
        if "AlterConfigs" in wanted:
            wanted.pop("DescribeConfigs", None)
        if wanted.keys() & {"Read", "Write", "Alter"}:
            wanted.pop("Describe", None)
    return [Right(kind, name, tuple(wanted), is_prefix) for (kind, name, is_prefix), wanted in operations.items()]


def check_allowed(operations: Mapping[str, set[int] | None], topic: str, operation: Operation) -> None:
    """Of what `allowed_operations` answered. Raises TopicsUnfit when the topic does not exist, else AccessDenied."""
    if topic not in operations:
        raise TopicsUnfit(f"topic {topic} does not exist")
    if not allows(operations[topic], operation):
        raise denied([f"{operation} on topic {topic}"])


def allows(codes: set[int] | None, operation: Operation) -> bool:
    """Of what `allowed_operations` answered for a topic."""
    return codes is not None and CODES[operation] in codes


async def check_rights(admin: AIOKafkaAdminClient, rights: Rights) -> None:
    """Raises AccessDenied, which names every right that the broker tells us is missing; KafkaError."""
    if missing := [line async for line in _missing(admin, rights)]:
        raise denied(missing)


@asynccontextmanager
async def named_rights(admin: AIOKafkaAdminClient, rights: Rights) -> AsyncIterator[None]:
    """Where a broker denies something in the body, raises AccessDenied, which names what is missing of these rights."""
    try:
        yield
    except* DENIALS as group:
        try:
            await check_rights(admin, rights)
        except KafkaError as error:
            log.warning("rights.unknown", error=repr(error))
        denials = list(leaves(group))
        lines = list(dict.fromkeys(_explained(denial, rights) for denial in denials))
        if all(isinstance(denial, TopicAuthorizationFailedError) for denial in denials):
            # Of topics, brokers tell: so rights are being replaced.
            raise StreamgaugeError(f"Kafka denied this user, and allows it now: {'; '.join(lines)}") from group
        raise denied(lines) from group


async def _missing(admin: AIOKafkaAdminClient, rights: Rights) -> AsyncIterator[str]:
    """Of resources that are named in full; of transactional ids brokers do not tell."""
    named = [right for right in merged(rights) if not right.is_prefix]
    topics = {right.name: right for right in named if right.resource == "topic"}
    found = await allowed_operations(admin, list(topics))
    for name in (name for name in topics if name in found):
        for operation in topics[name].operations:
            if not allows(found[name], operation):
                yield f"{operation} on topic {name}"
    for right in named:
        if right.resource == "group" and not await _may_see(admin, right.name):
            yield _words(right)


async def _may_see(admin: AIOKafkaAdminClient, group: str) -> bool:
    """Whoever may read with a group may see it. Who may see it and not read, is told so when joining it."""

    async def ask() -> list[Any]:
        answer: list[Any] = await admin.describe_consumer_groups([group])
        return answer

    try:
        [response] = await persistently(ask, COORDINATOR_TIMEOUT_S)
    except GroupAuthorizationFailedError:
        return False
    [(error_code, *_others)] = response.groups
    return bool(error_code != GroupAuthorizationFailedError.errno)


def _explained(error: BaseException, rights: Rights) -> str:
    """A denial, which does not always tell the resource, and never the operation."""
    kinds: dict[type[BaseException], Resource] = {
        TopicAuthorizationFailedError: "topic",
        GroupAuthorizationFailedError: "group",
        TransactionalIdAuthorizationFailed: "transactionalId",
    }
    of_kind = [right for right in rights if right.resource == kinds.get(type(error))]
    named = [right for right in of_kind if right.name in error.args]
    return "; ".join(map(_words, named or of_kind)) or repr(error)


def _words(right: Right) -> str:
    named = {"transactionalId": "transactional id"}.get(right.resource, right.resource)
    return f"{' and '.join(right.operations)} on {named} {right.name}{'*' if right.is_prefix else ''}"


def denied(missing: Sequence[str]) -> AccessDenied:
    """`missing`: a line each."""
    return AccessDenied(
        f"Kafka does not allow this user: {'; '.join(missing)}\nwhat each user needs: streamgauge acls --help"
    )


def as_commands(rights: Rights, principal: str, bootstrap_servers: str) -> Iterator[str]:
    """A call of Kafka's own `kafka-acls.sh` for each resource."""
    options = {"topic": "--topic", "group": "--group", "transactionalId": "--transactional-id"}
    for right in merged(rights):
        operations = " ".join(f"--operation {operation}" for operation in right.operations)
        prefixed = " --resource-pattern-type prefixed" if right.is_prefix else ""
        yield (
            f"kafka-acls.sh --bootstrap-server {bootstrap_servers} --add --allow-principal '{principal}' "
            f"{operations} {options[right.resource]} '{right.name}'{prefixed}"
        )


def as_strimzi(rights: Rights) -> Iterator[str]:
    """The lines of `acls:` in a KafkaUser of Strimzi."""
    yield "acls:"
    for right in merged(rights):
        prefix = ", patternType: prefix" if right.is_prefix else ""
        yield f"  - resource: {{type: {right.resource}, name: {right.name}{prefix}}}"
        yield f"    operations: [{', '.join(right.operations)}]"
