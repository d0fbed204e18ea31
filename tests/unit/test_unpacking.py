"""A stranger's batch costs no more memory than the bound, and loses nothing of what stands beside it."""

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamgauge.aiokafka_records import HEADERS_READ
from streamgauge.unpacking import MAX_UNPACKED_BYTES, Unpackable, Unread, unpacked
from tests.cluster import ROOT
from tests.raw_batches import (
    CODECS,
    HEADER_BYTES,
    TP,
    at,
    bomb,
    encoded_varint,
    lz4_frame,
    packed_batch,
    plain_batch,
    polls,
)

MB = 2**20
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: bytes(cramjam.gzip.compress(data)),
    "snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
    "lz4": lz4_frame,
    "zstd": lambda data: bytes(cramjam.zstd.compress(data)),
}


def packed(codec: str, *values: bytes) -> bytes:
    return packed_batch(CODECS[codec], PACK[codec](plain_batch(values)[HEADER_BYTES:]), len(values))


def read(answer: bytes) -> Iterator[Any]:
    return iter(polls(answer)._partition_records)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_within_the_bound_is_read(codec: str) -> None:
    """From one byte on, up to a batch that fills the bound to the last byte."""
    overhead = len(plain_batch([b"x" * MAX_UNPACKED_BYTES])) - HEADER_BYTES - MAX_UNPACKED_BYTES
    for size in (1, MAX_UNPACKED_BYTES - overhead):
        [record] = read(packed(codec, b"x" * size))
        assert record.value == b"x" * size
    [record] = read(packed(codec, b"x" * (MAX_UNPACKED_BYTES - overhead + 1)))
    assert type(record.value) is Unread


def test_blocks_of_snappy_are_read() -> None:
    """As Java's clients and aiokafka's write them."""
    builder = DefaultRecordBatchBuilder(2, CODECS["snappy"], 0, -1, -1, 0, MB)
    for offset in range(3):
        builder.append(offset, 5, None, b"%d" % offset * 30_000, [])
    assert [record.value for record in read(bytes(builder.build()))] == [b"%d" % n * 30_000 for n in range(3)]


def test_very_many_headers_take_no_memory() -> None:
    """2 MB of them, packed into some hundred bytes: not an object each, as the one parser would make."""
    empty = b"\0\x01"  # a name of no bytes, and no value
    fields = b"\0\0\0\x01\x01" + encoded_varint(2**20) + empty * 2**20
    records = encoded_varint(len(fields)) + fields
    batch = packed_batch(CODECS["zstd"], bytes(cramjam.zstd.compress(records)), 1)
    tracemalloc.start()
    try:
        [record] = read(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(record.headers) == HEADERS_READ
    assert peak < 4 * len(records)


def test_a_bomb_takes_no_memory() -> None:
    """600 MB in 20 kB: a process that reads it grows by the bound and a little."""
    assert len(bomb(600 * MB)) < 20_000
    program = f"""
import resource, sys
from aiokafka.consumer import fetcher
import streamgauge.aiokafka_records
from tests.raw_batches import bomb, packed_batch
batch = packed_batch(4, bomb({600 * MB}), 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
[record] = fetcher.MemoryRecords(batch).next_batch()
unit = 1 if sys.platform == "darwin" else 1024
print(type(record.value).__name__, unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    found = re.search(r"Unread (\d+)", run.stdout)
    assert found
    assert int(found[1]) < MAX_UNPACKED_BYTES + 16 * MB


def test_an_answer_ends_where_enough_is_unpacked() -> None:
    """Many small batches that unpack to much: the rest is asked for again, at the right offset."""
    batch = packed("zstd", b"x" * 10 * MB)
    answer = b"".join(at(offset, batch) for offset in range(40))
    result = polls(answer)
    assert [record.offset for record in result._partition_records] == [0, 1]
    assert result._partition_records.next_fetch_offset == 2
    bombs = b"".join(at(offset, packed_batch(CODECS["zstd"], bomb(600 * MB), 1)) for offset in range(40))
    assert [(record.offset, type(record.value)) for record in read(bombs)] == [(number, Unread) for number in range(8)]


def test_each_offset_of_a_broken_batch_has_its_record() -> None:
    """With the batch's own time; what stands beside it is read."""
    broken = packed_batch(CODECS["lz4"], b"no frame", 3)
    result = polls(plain_batch([b"before"]) + at(1, broken) + at(4, plain_batch([b"after"])))
    records = list(result._partition_records)
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert [record.value for record in records] == [b"before", b"", b"", b"", b"after"]
    assert {record.timestamp for record in records} == {5}


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_codec_that_nobody_knows_is_unpackable(codec: int) -> None:
    """Kafka has four."""
    with pytest.raises(Unpackable):
        unpacked(memoryview(packed_batch(codec, b"x", 1)))


@pytest.mark.parametrize("said", [[1000, 5], [0, 0, 0], [-3, 1], [1, 0]])
def test_records_are_where_their_batch_is(said: list[int]) -> None:
    """Whatever they say of their own offsets, which no broker compares."""
    values = [b"%d" % number for number in range(len(said))]
    records = list(read(at(7, plain_batch(values, said))))
    assert [record.offset for record in records] == list(range(7, 7 + len(said)))
    assert [record.value for record in records] == values


def corrupt(batch: bytes) -> bytes:
    return batch[:-1] + bytes([batch[-1] ^ 1])


def test_an_answer_ends_before_a_corrupt_batch() -> None:
    """What stands before it is handed out, and loses nothing by it."""
    result = polls(plain_batch([b"a", b"b"]) + at(2, corrupt(plain_batch([b"c"]))) + at(3, plain_batch([b"d"])))
    assert [record.value for record in result._partition_records] == [b"a", b"b"]
    assert result._partition_records.next_fetch_offset == 2


@pytest.mark.parametrize(
    "batch",
    [
        corrupt(plain_batch([b"c"])),
        corrupt(packed("lz4", b"c")),
        plain_batch([b"c"])[:8] + b"\xff\xff\xff\xf4" * 3,
        plain_batch([b"c"])[:16] + b"\1" + plain_batch([b"c"])[17:],
    ],
    ids=["plain", "packed", "negative length", "another format"],
)
def test_a_corrupt_batch_is_an_error_of_its_partition(batch: bytes) -> None:
    """It is raised by itself: not out of a poll that has read other partitions, which would lose their records."""
    error = polls(at(2, batch) + at(3, plain_batch([b"d"])), offset=2)
    assert type(error) is fetcher.FetchError
    with pytest.raises(CorruptRecordException) as caught:
        error.check_raise()
    assert caught.value.args == ({TP: 2},)


def odd_record(place: int, name_bytes: int = 1, content_bytes: int = 1) -> bytes:
    """With a header whose name is not UTF-8; name and content are one byte each, and say that they are so long."""
    header = encoded_varint(1) + encoded_varint(name_bytes) + b"\xff" + encoded_varint(content_bytes) + b"c"
    body = b"\0\0" + encoded_varint(place) + encoded_varint(-1) + encoded_varint(1) + b"v" + header
    return encoded_varint(len(body)) + body


@pytest.mark.parametrize(("name_bytes", "content_bytes"), [(1, 2), (1, 200), (1, 2**40), (2**40, 1)])
@pytest.mark.parametrize("is_followed", [False, True])
def test_a_record_that_ends_elsewhere_is_not_read(name_bytes: int, content_bytes: int, *, is_followed: bool) -> None:
    """Nor is memory beyond it, by our own parser, which reads from an odd name on. The record before it is."""
    more = [odd_record(1, name_bytes, content_bytes), odd_record(2)][: 2 if is_followed else 1]
    records = b"".join([odd_record(0), *more])
    for batch in (packed_batch(0, records, 1 + len(more)), packed_batch(3, lz4_frame(records), 1 + len(more))):
        first, *others = read(batch)
        assert first.value == b"v"
        assert [type(other.value) for other in others] == [Unread] * len(more)
