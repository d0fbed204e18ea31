"""All that is used of aiokafka without being part of its documented interface, and why. Written for aiokafka 0.14.

`tests/unit/test_aiokafka_private.py` holds the installed version to it: where a part is gone, only this module changes.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    _DefaultRecordBatchBuilderPy,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
)
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint

from streamgauge.events import MAX_HEADERS

HEADERS_READ = 2 * MAX_HEADERS
"""Of a record's headers. A dead letter of ours has fewer; of a record with more, these are enough to refuse it."""


def fail_unsent(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail what waits to be sent: aiokafka keeps an idempotent producer's batch for ever, and `stop` waits for it."""
    producer._message_accumulator.fail_all(error)


def batch_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    """What a topic's `max.message.bytes` is compared with: the size of a batch of this record alone, uncompressed."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 1, -1, -1, 0, 0)
    builder.append(0, None, key, value, headers)
    size: int = builder.size()
    return size


def sender_task(producer: AIOKafkaProducer) -> asyncio.Task[None] | None:
    """The task that sends: when `stop` is cancelled it goes on, through connections that it opens anew."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def transaction_end(producer: AIOKafkaProducer) -> asyncio.Future[Any] | None:
    """The future of the running transaction's end: nobody awaits that of a producer which was fenced."""
    return producer._txn_manager.wait_for_transaction_end() if producer._txn_manager else None


def has_stopped_fetching(consumer: AIOKafkaConsumer) -> bool:
    """Whether the task that fetches has ended: `getmany` does not say so, it finds no records for ever."""
    task: asyncio.Task[None] = consumer._fetcher.error_future
    return task.done()


async def send(admin: AIOKafkaAdminClient, request: Request[Any], node_id: int | None = None) -> Response:
    """Send a request that the admin client has no method for, to that broker or any. Raises KafkaError."""
    answer: Response = await admin._send_request(request, node_id)
    return answer


class RawName(str):
    """The name of a header that is not UTF-8: shown with replacement characters, written as it came."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> "RawName":
        name = super().__new__(cls, raw.decode(errors="replace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """What stood in the record."""
        return self.raw


def _name(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return RawName(raw)


class _TolerantBatch(_DefaultRecordBatchPy):
    """Reads any bytes as a header's name, and the first `HEADERS_READ` headers."""

    _pos: int

    def _read_msg(self, decode_varint: Any = decode_varint) -> _DefaultRecordPy:
        # The layout: https://kafka.apache.org/documentation/#record
        buffer = self._buffer
        length, start = decode_varint(buffer, self._pos)
        _attributes, pos = decode_varint(buffer, start)
        timestamp_delta_ms, pos = decode_varint(buffer, pos)
        offset_delta, pos = decode_varint(buffer, pos)
        key, pos = _nullable(buffer, pos)
        value, pos = _nullable(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(min(count, HEADERS_READ)):
            name, pos = _nullable(buffer, pos)
            content, pos = _nullable(buffer, pos)
            headers.append((_name(name or b""), content))
        self._pos = start + length
        is_append_time = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp_ms = self.max_timestamp if is_append_time else self.first_timestamp + timestamp_delta_ms
        return _DefaultRecordPy(self.base_offset + offset_delta, timestamp_ms, self.timestamp_type, key, value, headers)


def _nullable(buffer: bytearray, pos: int) -> tuple[bytes | None, int]:
    """Bytes with their length before them, and the position after them."""
    length, pos = decode_varint(buffer, pos)
    return (None, pos) if length < 0 else (bytes(buffer[pos : pos + length]), pos + length)


class _Batch:
    """A batch as aiokafka's C parser reads it; from the first record on that this cannot, as ours does.

    The C parser raises when a header's name is not UTF-8, and that would end a poll of all partitions. Ours, in Python,
    takes fourteen times as long.
    """

    def __init__(self, batch: DefaultRecordBatch, data: memoryview) -> None:
        self._batch, self._data = batch, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        done = 0
        try:
            for record in self._batch:
                if len(record.headers) > HEADERS_READ:
                    break
                yield record
                done += 1
            else:
                return
        except UnicodeDecodeError:
            pass
        yield from itertools.islice(_TolerantBatch(self._data), done, None)


class _Records(_MemoryRecordsPy):
    """What a broker answers to a fetch, as batches that read any record."""

    def next_batch(self, *limits: int) -> Any:
        data = self._next_slice
        batch = super().next_batch(*limits)
        return _Batch(batch, data) if isinstance(batch, DefaultRecordBatch) and data is not None else batch


fetcher.MemoryRecords = _Records
"""The consumer has no setting for how records are read; it looks this name up for each answer."""


class _PythonBatch(BatchBuilder):
    """As a producer's own batch, but it takes a `RawName`; the C builder takes exact strings only."""

    def __init__(self, accumulator: Any, *, is_transactional: bool) -> None:
        size, compression = accumulator._batch_size, accumulator._compression_type
        super().__init__(size, compression, is_transactional=is_transactional)
        self._builder = _DefaultRecordBatchBuilderPy(2, compression, is_transactional, -1, -1, 0, size)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


def new_batch(producer: AIOKafkaProducer, *, any_name: bool) -> BatchBuilder:
    """An empty batch of this producer; `any_name`: it has to take headers whose name is a `RawName`."""
    if not any_name:
        return producer.create_batch()
    transactions = producer._txn_manager
    is_transactional = transactions is not None and transactions.transactional_id is not None
    return _PythonBatch(producer._message_accumulator, is_transactional=is_transactional)


def bound_requests(
    owner: AIOKafkaAdminClient | AIOKafkaConsumer | AIOKafkaProducer, request_s: float, join_s: float = 0.0
) -> None:
    """Give each request so long (a join of the group `join_s`), and close the connection of one that takes longer.

    To be called before the client is started. A join is answered when all members have joined, but aiokafka has one
    timeout for all requests. It bounds some calls by that same time: such a call is cancelled just before its request
    times out. Then, and after a request for metadata, it keeps a connection that has died without a word.
    """
    own = owner.client if isinstance(owner, AIOKafkaProducer) else owner._client
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
    try:
        return await answer
    except TimeoutError:
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise


_bootstrap, _connect = client.AIOKafkaClient.bootstrap, client.create_conn
_connected: dict[asyncio.Task[Any] | None, list[Any]] = {}
"""By the task that bootstraps, not by context: a task that it starts would inherit that, and be watched for ever."""


async def _bootstrap_or_close(own: client.AIOKafkaClient) -> None:
    """As aiokafka does it, but where it is cancelled it closes its connection, which nothing else knows yet."""
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


async def _connect_and_tell(*args: Any, **options: Any) -> Any:
    connection = await _connect(*args, **options)
    _connected.get(asyncio.current_task(), []).append(connection)
    return connection


client.AIOKafkaClient.bootstrap, client.create_conn = _bootstrap_or_close, _connect_and_tell
