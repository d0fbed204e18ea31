"""All that is used of aiokafka without being part of its documented interface, and why. Written for aiokafka 0.14.

`tests/unit/test_aiokafka_private.py` holds the installed version to it: where a part is gone, only this module changes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest


def fail_unsent(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail what waits to be sent: aiokafka keeps an idempotent producer's batch for ever, and `stop` waits for it."""
    producer._message_accumulator.fail_all(error)


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


def bound_requests(
    owner: AIOKafkaAdminClient | AIOKafkaConsumer | AIOKafkaProducer, request_s: float, join_s: float = 0.0
) -> None:
    """Give each request so long (a join of the group `join_s`), and close the connection of one that takes longer.

    To be called before the client is started. A join is answered when all members have joined, but aiokafka has one
    timeout for all requests. It bounds some calls by that same time: such a call is cancelled just before its request
    times out. Then, and after a request for metadata, it keeps a connection that has died without a word.
    """
    client = owner.client if isinstance(owner, AIOKafkaProducer) else owner._client
    client._request_timeout_ms = round(request_s * 1000)
    connect = client._get_conn

    async def bounded(node_id: int, **options: Any) -> Any:
        connection = await connect(node_id, **options)
        if connection is not None and "send" not in vars(connection):
            connection.send = partial(_send, connection, connection.send, join_s)
        return connection

    client._get_conn = bounded


def _send(connection: Any, send: Callable[..., Any], join_s: float, request: Any, *args: Any, **kwargs: Any) -> Any:
    """Send; the timeout is read in that moment."""
    ordinary_s = connection._request_timeout
    if isinstance(request, JoinGroupRequest | SyncGroupRequest):
        connection._request_timeout = join_s or ordinary_s
    try:
        return _or_close(connection, send(request, *args, **kwargs))
    finally:
        connection._request_timeout = ordinary_s


async def _or_close(connection: Any, answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except TimeoutError:
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise
