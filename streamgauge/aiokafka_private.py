"""What is used of aiokafka's clients without being part of its documented interface, and why. For aiokafka 0.14.

`aiokafka_records.py` is the same for records. `tests/unit/test_aiokafka_private.py` holds the installed version to
both: where a part is gone, only they change.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client, conn
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, CloseReason, collect_hosts
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

import streamgauge.aiokafka_records  # noqa: F401 - whatever a client of ours fetches is read as we need it

CLOSING_TIMEOUT_S = 1.0

Owner: TypeAlias = AIOKafkaAdminClient | AIOKafkaConsumer | AIOKafkaProducer
Address = tuple[str, int]
"""Host and port."""


def fail_unsent(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail what waits to be sent: aiokafka keeps an idempotent producer's batch for ever, and `stop` waits for it.

    A batch that waits to be sent again is not among those from which its callback removes it: asyncio would log an
    exception of each.
    """
    accumulator = producer._message_accumulator
    again = [batch for batches in accumulator._batches.values() for batch in batches if batch.retry_count]
    accumulator._pending_batches.update(again)
    accumulator.fail_all(error)


def sender_task(producer: AIOKafkaProducer) -> asyncio.Task[None] | None:
    """The task that sends: when `stop` is cancelled it goes on, through connections that it opens anew."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def note_closed(owner: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Say that nothing of it is open any more: one whose `stop` was cancelled before it had begun does not know it."""
    owner._closed = True


def transaction_end(producer: AIOKafkaProducer) -> asyncio.Future[Any] | None:
    """The future of the running transaction's end: nobody awaits that of a producer which was fenced."""
    return producer._txn_manager.wait_for_transaction_end() if producer._txn_manager else None


def has_stopped_fetching(consumer: AIOKafkaConsumer) -> bool:
    """Whether the task that fetches has ended: `getmany` does not say so, it finds no records for ever."""
    task: asyncio.Task[None] = consumer._fetcher.error_future
    return task.done()


class AdminClient(AIOKafkaAdminClient):
    """Asks another broker where any will do and one cannot be reached: aiokafka picks one at random, once. Brokers tell
    of one that has died for as long as its session lasts.
    """

    async def _send_request(self, request: Request[Any], node_id: int | None = None) -> Response:
        brokers = [broker.nodeId for broker in self._client.cluster.brokers()] if node_id is None else []
        for broker in random.sample(brokers, len(brokers)):
            with suppress(NodeNotReadyError):  # raised before anything is sent
                return await super()._send_request(request, broker)
        return await super()._send_request(request, node_id)


async def reach(admin: AIOKafkaAdminClient) -> None:
    """Connect to a broker by the address that it advertises, which may be another than that of the first connection."""
    await send(admin, MetadataRequest([]))


def server_addresses(bootstrap_servers: str) -> list[Address]:
    """As aiokafka's clients reach them."""
    return [(host, port) for host, port, _family in collect_hosts(bootstrap_servers)]


def broker_addresses(admin: AIOKafkaAdminClient) -> list[Address]:
    """Where the brokers say that they are reached; none before one has answered."""
    return [(broker.host, broker.port) for broker in admin._client.cluster.brokers()]


async def advertised_addresses(options: Mapping[str, Any], timeout_s: float) -> list[Address]:
    """Where brokers say that they are reached, as the first one tells that answers; none when none answers."""
    admin = AIOKafkaAdminClient(**options)
    bound_requests(admin, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
    except (KafkaError, OSError, TimeoutError):
        return []
    finally:
        await admin.close()
    return broker_addresses(admin)


async def send(admin: AIOKafkaAdminClient, request: Request[Any], node_id: int | None = None) -> Response:
    """Send a request that the admin client has no method for, to that broker or any. Raises KafkaError."""
    try:
        answer: Response = await admin._send_request(request, node_id)
    except NotImplementedError as error:  # aiokafka's word for a version that the broker has not
        raise IncompatibleBrokerVersion(str(error)) from None
    return answer


def connections_of(owner: Owner) -> client.AIOKafkaClient:
    """What holds the connections of a client of any kind."""
    return owner.client if isinstance(owner, AIOKafkaProducer) else owner._client


def bound_requests(owner: Owner, request_s: float, join_s: float = 0.0) -> None:
    """Give each request so long (a join of the group `join_s`), and close the connection of one that takes longer.

    To be called before the client is started. A join is answered when all members have joined, but aiokafka has one
    timeout for all requests. It bounds some calls by that same time: such a call is cancelled just before its request
    times out. Then, and after a request for metadata, it keeps a connection that has died without a word.
    """
    own = connections_of(owner)
    own._request_timeout_ms = round(request_s * 1000)
    connect = own._get_conn

    async def bounded(node_id: int, **options: Any) -> Any:
        connection = await connect(node_id, **options)
        if connection is not None and "send" not in vars(connection):
            connection.send = partial(_send, connection, connection.send, join_s)
        return connection

    own._get_conn = bounded


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
    """aiokafka itself, at a TimeoutError, looks for the connection to close it, and ends with a KeyError where another
    request has replaced it meanwhile; so it is told what it would have raised.
    """
    try:
        return await answer
    except TimeoutError as error:
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise RequestTimedOutError from error


_bootstrap, _close = client.AIOKafkaClient.bootstrap, client.AIOKafkaClient.close
_closed: WeakSet[client.AIOKafkaClient] = WeakSet()
_connected: dict[asyncio.Task[Any] | None, list[Any]] = {}
"""By the task that bootstraps, not by context: a task that it starts would inherit that, and be watched for ever."""


async def _bootstrap_or_close(own: client.AIOKafkaClient) -> None:
    """As aiokafka does it, but where it is cancelled it closes its connection, which nothing else knows yet."""
    _closed.discard(own)
    task = asyncio.current_task()
    connections = _connected[task] = []
    try:
        await _bootstrap(own)
    except BaseException:
        for connection in connections:
            connection.close()
        raise
    finally:
        del _connected[task]


async def _close_for_good(own: client.AIOKafkaClient) -> None:
    """As aiokafka does it; what a producer's sender has begun, and nobody can cancel, connects no more after it."""
    _closed.add(own)
    await _close(own)


class _Bearer(conn.OAuthAuthenticator):
    """Answers a broker's refusal of a token as RFC 7628, section 3.2.3, wants it. aiokafka takes it for a success: the
    broker says why in a challenge without an error code, and refuses when this has been answered.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        following: tuple[bytes, bool] | None = await super().step(None)
        return (b"\x01", True) if following is None and payload else following


conn.OAuthAuthenticator = _Bearer


class Credentials(Protocol):
    """Given to a client as its `ssl_context`, which aiokafka hands on to each connection without a look."""

    def options(self) -> dict[str, Any]:
        """What `create_conn` takes besides, as it is now: aiokafka would keep what it was constructed with."""
        ...

    def accepted(self, address: Address) -> None: ...
    def refused(self, address: Address, error: BaseException) -> None: ...


async def _connect(*args: Any, **options: Any) -> AIOKafkaConnection:
    """As aiokafka's `create_conn`; what fails is closed when this returns: a loop that ends would leave it behind."""
    connection = AIOKafkaConnection(*args, **options)
    try:
        await connection.connect()
    except Exception:
        if connection._protocol:
            await asyncio.wait([connection._closed_fut], timeout=CLOSING_TIMEOUT_S)
        raise
    return connection


async def _connect_and_tell(
    host: str, port: int, *, ssl_context: Credentials | None = None, **options: Any
) -> AIOKafkaConnection:
    if ssl_context is None:
        connection = await _connect(host, port, **options)
    else:
        try:
            connection = await _connect(host, port, **options | ssl_context.options())
        except Exception as error:
            ssl_context.refused((host, port), error)
            if isinstance(error, OSError | KafkaError):
                raise
            raise KafkaConnectionError(repr(error)) from error  # anything else would end aiokafka's tasks
        ssl_context.accepted((host, port))
    if getattr(options.get("on_close"), "__self__", None) in _closed:
        connection.close(reason=CloseReason.SHUTDOWN)
        raise KafkaConnectionError("the client was closed meanwhile")
    _connected.get(asyncio.current_task(), []).append(connection)
    return connection


client.AIOKafkaClient.bootstrap, client.AIOKafkaClient.close = _bootstrap_or_close, _close_for_good
client.create_conn = _connect_and_tell
