"""All that is used of aiokafka without being part of its documented interface, and why. Written for aiokafka 0.14.

`tests/unit/test_aiokafka_private.py` holds the installed version to it: where a part is gone, only this module changes.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest


def fail_unsent(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail what waits to be sent: aiokafka keeps an idempotent producer's batch for ever, and `stop` waits for it."""
    producer._message_accumulator.fail_all(error)


def batch_bytes(
    timestamp_ms: int | None, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> int:
    """What a topic's `max.message.bytes` is compared with: the size of a batch of this record alone, uncompressed."""
    builder = BatchBuilder(0, 0)
    builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
    size: int = builder.size()
    return size


def sender_task(producer: AIOKafkaProducer) -> asyncio.Task[None] | None:
    """The task that sends: when `stop` is cancelled it goes on, through connections that it opens anew."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def transaction_end(producer: AIOKafkaProducer) -> asyncio.Future[Any] | None:
    """The future of the running transaction's end: nobody awaits that of a producer which was fenced."""
    return producer._txn_manager.wait_for_transaction_end() if producer._txn_manager else None


async def send(admin: AIOKafkaAdminClient, request: Request[Any], node_id: int | None = None) -> Response:
    """Send a request that the admin client has no method for, to that broker or any. Raises KafkaError."""
    answer: Response = await admin._send_request(request, node_id)
    return answer


def wait_longer_for_joins(consumer: AIOKafkaConsumer, timeout_s: float) -> None:
    """Give joins of the group so long, and leave all other requests the client's `request_timeout_ms`.

    A join is answered when all members have joined; aiokafka knows one timeout for all requests. A fetch or a heartbeat
    on a connection that has died without a word would wait as long.
    """
    client = consumer._client
    send, ordinary_s = client.send, client._request_timeout_ms / 1000

    async def sent(node_id: int, request: Request[Any], *, group: Any = ConnectionGroup.DEFAULT) -> Response:
        is_join = isinstance(request, JoinGroupRequest | SyncGroupRequest)
        if is_join and await client.ready(node_id, group=group):
            # Read when a request is sent: one that is on its way keeps what it had.
            client._conns[node_id, group]._request_timeout = timeout_s
        try:
            return await send(node_id, request, group=group)
        finally:
            if is_join and (node_id, group) in client._conns:
                client._conns[node_id, group]._request_timeout = ordinary_s

    client.send = sent
