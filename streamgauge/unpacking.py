"""A compressed batch of records, unpacked within a bound. Pure.

What its frames say of their own size is a stranger's word: the bound holds in the unpacking itself.
The layout of a batch: https://kafka.apache.org/documentation/#recordbatch
"""

import mmap
import struct
from collections.abc import Callable

import cramjam

MAX_UNPACKED_BYTES = 16 * 2**20
"""Of one batch. Clients fill a batch with 1 MB at most, unless a single record is larger. Larger ones of ours are not
compressed; see `worker/transaction.py`."""
HEADER_BYTES = 61
_ATTRIBUTES_AT, _CODEC_BITS = 21, 0b111
_COUNT_AT = 57
_XERIAL, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\0", 16


class Unread(bytes):
    """Stands for the value of a record that cannot be read: empty, as nothing is known of it."""

    __slots__ = ()


class Unpackable(Exception):  # noqa: N818 - that it cannot be unpacked is what is known
    """A batch is broken, or unpacks to more than MAX_UNPACKED_BYTES."""


def is_packed(batch: memoryview) -> bool:
    """Whether the records of this batch are compressed."""
    return bool(batch[_ATTRIBUTES_AT + 1] & _CODEC_BITS)


def record_count(batch: memoryview) -> int:
    """How many records the batch says that it holds."""
    (count,) = struct.unpack_from(">i", batch, _COUNT_AT)
    return int(count)


def unpacked(batch: memoryview) -> bytes:
    """The same batch as if it had been sent uncompressed, but for its checksum. Raises Unpackable."""
    header = bytearray(batch[:HEADER_BYTES])
    codec = header[_ATTRIBUTES_AT + 1] & _CODEC_BITS
    header[_ATTRIBUTES_AT + 1] &= ~_CODEC_BITS
    if codec not in _INTO:
        raise Unpackable
    # Of anonymous memory only the pages that are written to are taken.
    with (
        mmap.mmap(-1, MAX_UNPACKED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANON) as anonymous,
        memoryview(anonymous) as space,
    ):
        try:
            size = _INTO[codec](batch[HEADER_BYTES:], space)
        except (cramjam.DecompressionError, struct.error):
            raise Unpackable from None
        with space[:size] as records:
            return b"".join((header, records))


def _snappy(packed: memoryview, space: memoryview) -> int:
    """Java's clients write blocks, each with its length before it; others one block alone."""
    if packed[: len(_XERIAL)] != _XERIAL:
        return int(cramjam.snappy.decompress_raw_into(packed, space))
    size, pos = 0, _XERIAL_HEADER_BYTES
    while pos < len(packed):
        (length,) = struct.unpack_from(">I", packed, pos)
        pos += 4 + length
        with space[size:] as rest:
            size += cramjam.snappy.decompress_raw_into(packed[pos - length : pos], rest)
    return size


_INTO: dict[int, Callable[[memoryview, memoryview], int]] = {
    1: cramjam.gzip.decompress_into,
    2: _snappy,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}
"""By the number in a batch's attributes; what is too large raises, wherever it is noticed."""
