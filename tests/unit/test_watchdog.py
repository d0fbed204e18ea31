"""When standing still is a fault."""

import pytest

from streamgauge.errors import StreamgaugeError
from worker.watchdog import Watchdog


class Scene:
    """A watchdog with a timeout of a minute, a clock, and a broker that is asked for lag."""

    def __init__(self, *, has_lag: bool) -> None:
        self.now_s, self.lag, self.asked = 100.0, has_lag, 0
        self.dog = Watchdog(60, self.has_lag, clock=lambda: self.now_s)

    async def has_lag(self) -> bool:
        self.asked += 1
        return self.lag

    async def after(self, seconds: float) -> str | None:
        self.now_s += seconds
        await self.dog.check()
        return self.dog.problem()


async def test_standing_still_with_lag_turns_red_then_ends() -> None:
    """Red once the timeout has passed, and after twice that the process ends with the reason."""
    scene = Scene(has_lag=True)
    assert await scene.after(59) is None
    assert await scene.after(1) is None  # the lag may be of this moment
    assert await scene.after(10) == "nothing was committed for 70 s although there is lag"
    with pytest.raises(StreamgaugeError, match="nothing was committed for 120 s although there is lag"):
        await scene.after(50)


async def test_a_commit_makes_it_green() -> None:
    """The clock starts anew."""
    scene = Scene(has_lag=True)
    await scene.after(60)
    assert await scene.after(1)
    scene.dog.begin_anew()
    assert scene.dog.problem() is None
    assert await scene.after(59) is None


async def test_standing_still_without_lag_is_fine() -> None:
    """Idle, or with a broker that cannot tell, nothing is wrong; and lag that comes then has its whole time."""
    scene = Scene(has_lag=False)
    for _ in range(3):
        assert await scene.after(60) is None
    assert scene.asked == 3
    scene.lag = True
    assert await scene.after(59) is None
    assert scene.asked == 3
