"""How much may be between fetch and commit."""

import asyncio

from streamgauge.events import MAX_ID_CHARS, MAX_METADATA_BYTES
from worker.outcomes import InputRecord

RECORD_BYTES = 1600
"""The objects of any record: itself, its key, value and outcome with some ten probabilities, its place in the order."""
HEADER_BYTES = 200
"""The objects of a header: the pair, its name (twice, if that is not UTF-8), its value. Five bytes a character hold any
name."""
TOKEN_BYTES, MAX_TOKENS = 4, 512


def largest_share(partitions: int) -> float:
    """How much of the credit one of so many partitions may hold.

    Nearly twice what is fair, so that partitions in step are never held back: aiokafka throws away what a paused one
    has prefetched. Of many partitions a quarter, so that a hot one can still keep the model busy.
    """
    return max(1 / 4, 2 / (partitions + 1))


class Credit:
    """Records and bytes that may be held. Exhausted at the limit, available again at 3/4 of it."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self.max_records, self.max_bytes = max_records, max_bytes
        self.records = self.bytes = 0
        self._available = asyncio.Event()
        self._available.set()

    @property
    def records_left(self) -> int:
        return max(1, self.max_records - self.records)

    def take(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        if self.records >= self.max_records or self.bytes >= self.max_bytes:
            self._available.clear()

    def give_back(self, records: int, size: int) -> None:
        self.records -= records
        self.bytes -= size
        if self.records <= self.max_records * 3 // 4 and self.bytes <= self.max_bytes * 3 // 4:
            self._available.set()

    async def available(self) -> None:
        await self._available.wait()


def held_bytes(record: InputRecord) -> int:
    """What Python holds for a record from fetch to commit, at most: the record, its headers, and what is made of it.

    From its sizes alone, before it is decoded: its value may hold a token a byte, metadata, and an id whose characters
    take four bytes each.
    """
    value = len(record.value or b"")
    size = RECORD_BYTES + value + len(record.key or b"")
    size += TOKEN_BYTES * min(value, MAX_TOKENS) + min(value, MAX_METADATA_BYTES) + min(4 * value, 4 * MAX_ID_CHARS)
    for name, content in record.headers:
        size += HEADER_BYTES + 5 * len(name) + len(content or b"")
    return size
