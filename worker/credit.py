"""How much may be between fetch and commit."""

import asyncio

from worker.outcomes import InputRecord


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


def size_bytes(record: InputRecord) -> int:
    """What a record holds in memory, roughly: key, value and headers."""
    size = len(record.value or b"") + len(record.key or b"")
    for key, value in record.headers:
        size += len(key) + len(value or b"")
    return size
