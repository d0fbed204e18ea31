"""When texts are due."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.pacing import MAX_BURST_S, Pace
from streamgauge.errors import ConfigurationError


def test_unpaced_is_always_due() -> None:
    """Without a rate every text is due at once, and nothing is ever late."""
    pace = Pace(None)

    assert pace.due_in_s(1_000_000, 0.0) == 0
    assert pace.forgiven_s(0, 1_000_000.0) == 0


@given(rate_per_s=st.floats(0.01, 100_000), sent=st.integers(0, 1_000_000), elapsed_s=st.floats(0, 1e6))
def test_no_drift(rate_per_s: float, sent: int, elapsed_s: float) -> None:
    """The n-th text is due n / rate seconds after the start, whenever it is asked."""
    due_in_s = Pace(rate_per_s).due_in_s(sent, elapsed_s)

    assert due_in_s == pytest.approx(max(0.0, sent / rate_per_s - elapsed_s), abs=1e-6)


def test_short_stall_is_caught_up() -> None:
    """What a stall of less than a second missed is sent at once, and the schedule stays as it was."""
    sent, start_s = _send_all_due(Pace(100), sent=500, start_s=0.0, now_s=5.9)

    assert sent == 591
    assert start_s == 0


def test_long_stall_bursts_one_second_at_most() -> None:
    """After a longer stall one second's worth of texts is sent at once; the rest is forgiven, not sent later."""
    sent, start_s = _send_all_due(Pace(100), sent=500, start_s=0.0, now_s=65.0)
    later, _ = _send_all_due(Pace(100), sent=sent, start_s=start_s, now_s=66.0)

    assert sent - 500 == 100 * MAX_BURST_S + 1
    assert later - sent == 100


@pytest.mark.parametrize("rate_per_s", [0, -1, math.nan, math.inf])
def test_impossible_rate(rate_per_s: float) -> None:
    """A rate that is none is refused."""
    with pytest.raises(ConfigurationError, match="more than 0"):
        Pace(rate_per_s)


def _send_all_due(pace: Pace, *, sent: int, start_s: float, now_s: float) -> tuple[int, float]:
    """Send, in no time, what is due at `now_s`; returns how many are sent then, and the start then."""
    start_s += pace.forgiven_s(sent, now_s - start_s)
    while pace.due_in_s(sent, now_s - start_s) == 0:
        sent += 1
    return sent, start_s
