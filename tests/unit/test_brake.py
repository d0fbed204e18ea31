"""When the share of texts that the model fails on stops a worker."""

from hypothesis import given
from hypothesis import strategies as st

from worker.brake import Brake


def test_a_few_failures_do_not_stop_it() -> None:
    """Below the share, or before there are enough texts to tell, the worker goes on."""
    brake = Brake(0.5, window=10)
    assert brake.add([True] * 9) is None
    assert Brake(0.5, window=10).add([True, False] * 50) is None


def test_too_large_a_share_stops_it() -> None:
    """Above the share of the last texts it stops, however good what came before was."""
    brake = Brake(0.5, window=10)
    assert brake.add([False] * 1000) is None
    assert brake.add([True] * 9) is None
    assert brake.add([True]) == 1.0


@given(st.lists(st.lists(st.booleans(), max_size=8), min_size=1))
def test_the_share_is_that_of_the_latest_transactions(transactions: list[list[bool]]) -> None:
    """Against a naive sum over the fewest latest transactions that hold enough texts."""
    brake = Brake(0.3, window=10)
    for end in range(1, len(transactions) + 1):
        share = brake.add(transactions[end - 1])
        latest: list[bool] = []
        for texts in reversed(transactions[:end]):
            latest = [*texts, *latest]
            if len(latest) >= 10:
                break
        expected = sum(latest) / max(1, len(latest))
        is_full = len(latest) >= 10 and bool(transactions[end - 1])
        assert share == (expected if is_full and expected > 0.3 else None)
