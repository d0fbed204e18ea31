"""What may be between fetch and commit."""

import asyncio

from worker.credit import Credit, largest_share


async def test_credit_is_exhausted_at_the_limit_and_back_at_three_quarters() -> None:
    """Fetching stops at the limit, of records or of bytes, and goes on when a quarter is free."""
    for credit, record_bytes in ((Credit(4, 1000), 1), (Credit(1000, 4), 1)):
        credit.take(4, 4 * record_bytes)
        waiting = asyncio.ensure_future(credit.available())
        await asyncio.sleep(0)
        assert not waiting.done()
        credit.give_back(1, record_bytes)
        await waiting


def test_a_stuck_partition_leaves_credit_to_the_others() -> None:
    """One alone may hold all; partitions that hold equally much are never held back."""
    assert largest_share(1) == 1
    assert all(1 / count < largest_share(count) < 0.7 for count in range(2, 100))
