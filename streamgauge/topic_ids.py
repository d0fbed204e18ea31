"""Which cluster and which topics these are, not only what they are called, and what one may do with them.

aiokafka stops at version 5 of the Metadata request; topics have ids from version 10 on (KIP-516), and the broker tells
what it allows from version 8 on (KIP-430), which is the last that some other makes have. The schemas are those of
https://kafka.apache.org/protocol#The_Messages_Metadata.
"""

import uuid
from collections.abc import Sequence
from io import BytesIO

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

from streamgauge.aiokafka_private import send

_TEXT = String("utf-8")
DESCRIBE = 8
"""Of Kafka's AclOperation."""


class Uuid(AbstractType[uuid.UUID]):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class MetadataResponse_v10(Response):  # noqa: N801 - as aiokafka names its structs
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequest_v10(RequestStruct):  # noqa: N801 - as aiokafka names its structs
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class IdentifiedMetadata(Request[MetadataRequest_v10]):
    """Asks for topics by name, in the first version that tells their ids."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequest_v10]) -> MetadataRequest_v10:
        no_tags: dict[int, bytes] = {}
        topics = [(uuid.UUID(int=0), name, no_tags) for name in self._names]
        return request_struct_class(topics, False, False, False, no_tags)


async def identify(admin: AIOKafkaAdminClient, names: Sequence[str]) -> str:
    """The ids of the cluster and of these topics, as one line: another one when any of them is. Raises KafkaError."""
    cluster_id, ids = await _ask(admin, names)
    return " ".join([f"cluster {cluster_id}", *(f"{name} {ids[name]}" for name in names)])


async def topic_ids(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, str]:
    """The ids of these topics, by name: a topic made anew has another one. Raises KafkaError."""
    _cluster_id, ids = await _ask(admin, names)
    return ids


async def _ask(admin: AIOKafkaAdminClient, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    answer = await send(admin, IdentifiedMetadata(names))
    ids = {}
    for error_code, name, topic_id, *_ in answer.topics:
        if error_code:
            raise for_code(error_code)(name)
        ids[name] = str(topic_id)
    return answer.cluster_id, ids


class MetadataResponse_v8(Response):  # noqa: N801 - as aiokafka names its structs
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT))),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", _TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class MetadataRequest_v8(RequestStruct):  # noqa: N801 - as aiokafka names its structs
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponse_v8
    SCHEMA = Schema(
        ("topics", Array(_TEXT)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class AuthorizedMetadata(Request[MetadataRequest_v8]):
    """Asks for topics by name, and what one may do with them; none of them is created by that."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequest_v8]) -> MetadataRequest_v8:
        return request_struct_class(list(self._names), False, False, True)


async def allowed_operations(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, set[int] | None]:
    """What the broker lets this user do with these topics: codes of Kafka's AclOperation; None: not even know of it.
    Topics that do not exist, as far as the user may know, are left out. Raises KafkaError.
    """
    answer = await send(admin, AuthorizedMetadata(names))
    found: dict[str, set[int] | None] = {}
    for error_code, name, *_others, operations in answer.topics:
        if error_code == TopicAuthorizationFailedError.errno:
            found[name] = None
        elif error_code not in (0, UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno):
            raise for_code(error_code)(name)
        elif error_code == 0:
            found[name] = codes(operations)
    return found


def codes(operations: int) -> set[int]:
    """Of operations as brokers tell them, a bit each. All of them where a broker does not tell: who is told of a topic
    may describe it, so without this bit the others say nothing.
    """
    is_told = operations > 0 and operations >> DESCRIBE & 1
    return {code for code in range(31) if not is_told or operations >> code & 1}
