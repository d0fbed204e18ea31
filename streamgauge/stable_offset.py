"""A group's committed offset once no transaction is about to move it: OffsetFetch with `require_stable` (KIP-447).

aiokafka stops at version 3 of that request. A broker of an older release may answer that one with the offset of before,
although the transaction that moves it is over: it takes offsets into memory only after it has said so (KAFKA-17507).
Asked for a stable offset it says instead that it does not know it yet. The schemas are those of
https://kafka.apache.org/protocol#The_Messages_OffsetFetch.
"""

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorLoadInProgressError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.aiokafka_private import send
from streamgauge.kafka import persistently

COORDINATOR_TIMEOUT_S = 10.0
UNSTABLE_OFFSET_COMMIT = 88
"""Kafka's error code, unknown to aiokafka."""


class OffsetFetchResponse_v7(Response):  # noqa: N801 - as aiokafka names its structs
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequest_v7(RequestStruct):  # noqa: N801 - as aiokafka names its structs
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = OffsetFetchResponse_v7
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(("name", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsetFetch(Request[OffsetFetchRequest_v7]):
    """Asks for one partition's committed offset, which no transaction must be about to move."""

    API_KEY = 9

    def __init__(self, group: str, tp: TopicPartition) -> None:
        self._group, self._tp = group, tp

    def build(self, request_struct_class: type[OffsetFetchRequest_v7]) -> OffsetFetchRequest_v7:
        no_tags: dict[int, bytes] = {}
        topics = [(self._tp.topic, [self._tp.partition], no_tags)]
        return request_struct_class(self._group, topics, True, no_tags)


async def stable_offset(admin: AIOKafkaAdminClient, group: str, tp: TopicPartition) -> OffsetAndMetadata | None:
    """The group's committed offset, None when there is none; to be asked for after a fence. Raises KafkaError.

    While a transaction of another producer is about to move it there is no answer, so nobody but who has fenced asks.
    """

    async def ask() -> OffsetAndMetadata:
        coordinator = await admin.find_coordinator(group)
        answer = await send(admin, StableOffsetFetch(group, tp), coordinator)
        if answer.error_code:
            raise for_code(answer.error_code)(group)
        [(_topic, [(_partition, offset, _epoch, metadata, error_code, _tags)], _topic_tags)] = answer.topics
        if error_code == UNSTABLE_OFFSET_COMMIT:
            raise CoordinatorLoadInProgressError(f"the offset of {tp.topic}-{tp.partition} is about to move")
        if error_code:
            raise for_code(error_code)(tp.topic)
        return OffsetAndMetadata(offset, metadata or "")

    committed = await persistently(ask, COORDINATOR_TIMEOUT_S)
    return committed if committed.offset >= 0 else None
