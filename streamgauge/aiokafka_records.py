"""How records are read and written where aiokafka's documented interface does not do what we need, and why.

Written for aiokafka 0.14, as `aiokafka_private.py`, which brings this module along wherever a client is made.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import (
    DefaultRecordBatch,
    _DefaultRecordBatchBuilderPy,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
)
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint_py
from aiokafka.structs import TopicPartition

from streamgauge.events import MAX_HEADERS
from streamgauge.unpacking import (
    HEADER_BYTES,
    MAX_UNPACKED_BYTES,
    Unpackable,
    Unread,
    is_packed,
    record_count,
    unpacked,
)

log = structlog.get_logger(__name__)

HEADERS_READ = 2 * MAX_HEADERS
"""Of a record's headers. A dead letter of ours has fewer; of a record with more, these are enough to refuse it."""

MAX_FOR_C_BYTES = 2**20
"""Of an unpacked batch: the C parser makes all headers of a record, with 33 bytes for each of theirs. What our own
workers pack is smaller.
"""
FAILED_BYTES = MAX_UNPACKED_BYTES // 8
"""What a batch counts for that cannot be unpacked: it leaves nothing in memory, but holds up the event loop as well."""


def batch_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    """What a topic's `max.message.bytes` is compared with: the size of a batch of this record alone, uncompressed."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 1, -1, -1, 0, 0)
    builder.append(0, None, key, value, headers)
    size: int = builder.size()
    return size


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
    """Reads any bytes as a header's name, and the first `HEADERS_READ` headers. Raises ValueError or IndexError."""

    _pos: int

    # The one in C reads beyond the end of the buffer, whatever stands there.
    def _read_msg(self, decode_varint: Any = decode_varint_py) -> _DefaultRecordPy:
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
        if not pos <= self._pos <= len(buffer):
            raise ValueError("a record does not end where it says")
        is_append_time = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp_ms = self.max_timestamp if is_append_time else self.first_timestamp + timestamp_delta_ms
        return _DefaultRecordPy(self.base_offset + offset_delta, timestamp_ms, self.timestamp_type, key, value, headers)


def _nullable(buffer: bytearray, pos: int) -> tuple[bytes | None, int]:
    """Bytes with their length before them, and the position after them."""
    length, pos = decode_varint_py(buffer, pos)
    return (None, pos) if length < 0 else (bytes(buffer[pos : pos + length]), pos + length)


class _Batch:
    """A batch as aiokafka's C parser reads it; from the first record on that this cannot, as ours does.

    The C parser raises when a header's name is not UTF-8, and that would end a poll of all partitions. Ours, in Python,
    takes fourteen times as long. What neither can read, an `Unread` stands for, so that each offset has its record.
    """

    def __init__(self, batch: DefaultRecordBatch, data: memoryview, answer: "_Records") -> None:
        self._batch, self._data, self._answer = batch, data, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def validate_crc(self) -> bool:
        """It was, when the answer came."""
        return True

    def __iter__(self) -> Iterator[Any]:
        batch, due = self._batch, self._batch.base_offset
        # The broker counts the records of a batch, but does not compare what they say of their own offsets.
        is_complete = record_count(self._data) == batch.next_offset - due
        try:
            for record in self._parsed():
                if not is_complete:
                    _check_within(record.offset, due, batch.next_offset)
                is_due = record.offset == due or not is_complete
                yield record if is_due else _moved(record, due)
                due = record.offset + 1 if is_due else due + 1
        except (Unpackable, KafkaError, ValueError, IndexError) as error:
            if due < batch.next_offset:
                self._answer.tell_unreadable(due, batch.next_offset, error)
            timestamp_ms = batch.max_timestamp
            for offset in range(due, batch.next_offset):
                yield _DefaultRecordPy(offset, timestamp_ms, batch.timestamp_type, None, Unread(), [])

    def _parsed(self) -> Iterator[Any]:
        batch, data = self._batch, self._data
        if is_packed(data):
            data = self._answer.unpacked(data)
            if len(data) > MAX_FOR_C_BYTES:
                yield from _TolerantBatch(data)
                return
            batch = DefaultRecordBatch(data)
        done = 0
        try:
            for record in batch:
                if len(record.headers) > HEADERS_READ:
                    break
                yield record
                done += 1
            else:
                return
        except UnicodeDecodeError:
            pass
        record = None  # it may hold very many headers
        yield from itertools.islice(_TolerantBatch(data), done, None)


def _check_within(offset: int, first: int, end: int) -> None:
    if not first <= offset < end:
        raise ValueError("a record is not where its batch is")


def _moved(record: Any, offset: int) -> _DefaultRecordPy:
    return _DefaultRecordPy(offset, record.timestamp, record.timestamp_type, record.key, record.value, record.headers)


class _Records(_MemoryRecordsPy):
    """What a broker answers to a fetch, as batches that read any record.

    It ends early, and the rest is fetched again, where so much has been unpacked that memory would have no bound, and
    before a batch that does not fit its checksum. That one stands first in the next answer.
    """

    _next_slice: memoryview | None
    where = TopicPartition("", -1)
    is_corrupt = False
    """Whether the first batch is not what was written."""

    def __init__(self, data: bytes) -> None:
        self._unpacked_bytes, self._has_told = 0, False
        super().__init__(data)

    def _cache_next(self, *limits: int) -> None:
        is_first = self._pos == 0
        super()._cache_next(*limits)
        if self._next_slice is None or _is_whole(self._next_slice):
            return
        if is_first:
            self.is_corrupt = True
        else:
            self._next_slice = None

    def has_next(self) -> bool:
        return super().has_next() and self._unpacked_bytes < MAX_UNPACKED_BYTES

    def next_batch(self, *limits: int) -> Any:
        data = self._next_slice
        batch = super().next_batch(*limits)
        return _Batch(batch, data, self) if data is not None else batch

    def unpacked(self, batch: memoryview) -> memoryview:
        """Raises Unpackable."""
        self._unpacked_bytes += FAILED_BYTES
        data = memoryview(unpacked(batch))
        self._unpacked_bytes += len(data) - FAILED_BYTES
        return data

    def tell_unreadable(self, first: int, end: int, error: Exception) -> None:
        """Once an answer: a stranger may write thousands of such batches."""
        if not self._has_told:
            topic, partition = self.where
            kind = type(error).__name__
            log.error("batch.unreadable", topic=topic, partition=partition, first=first, end=end, error=kind)
        self._has_told = True


def _is_whole(batch: memoryview) -> bool:
    """Whether it fits its checksum, and is of the one format that Kafka writes since 0.11."""
    is_known = len(batch) >= HEADER_BYTES and batch[_MemoryRecordsPy.MAGIC_OFFSET] == 2
    return is_known and bool(DefaultRecordBatch(batch).validate_crc())


class _Result(fetcher.FetchResult):
    """What is polled of one answer; of one that begins with a corrupt batch, the error.

    aiokafka raises it out of the middle of a poll, and what was polled of other partitions is lost. This way it raises
    when there is nothing else to poll.
    """

    def __new__(cls, tp: TopicPartition, *, partition_records: Any, assignment: Any, backoff: float) -> Any:
        records = partition_records._records
        records.where = tp
        if not records.is_corrupt:
            return super().__new__(cls)
        offset = partition_records.next_fetch_offset
        log.error("batch.corrupt", topic=tp.topic, partition=tp.partition, offset=offset)
        return fetcher.FetchError(error=CorruptRecordException({tp: offset}), backoff=backoff)


fetcher.MemoryRecords, fetcher.FetchResult = _Records, _Result
"""The consumer has no setting for how records are read; it looks these names up for each answer."""


class _PythonBatch(BatchBuilder):
    """As a producer's own batch, but it takes a `RawName`; the C builder takes exact strings only."""

    def __init__(self, accumulator: Any, *, is_transactional: bool, is_plain: bool = False) -> None:
        size, compression = accumulator._batch_size, 0 if is_plain else accumulator._compression_type
        super().__init__(size, compression, is_transactional=is_transactional)
        self._builder = _DefaultRecordBatchBuilderPy(2, compression, is_transactional, -1, -1, 0, size)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


def new_batch(producer: AIOKafkaProducer, *, any_name: bool, is_plain: bool = False) -> BatchBuilder:
    """An empty batch of this producer; `any_name`: it has to take headers whose name is a `RawName`; `is_plain`: it is
    not compressed, whatever the producer's setting.
    """
    if not any_name and not is_plain:
        return producer.create_batch()
    transactions = producer._txn_manager
    is_transactional = transactions is not None and transactions.transactional_id is not None
    return _PythonBatch(producer._message_accumulator, is_transactional=is_transactional, is_plain=is_plain)
