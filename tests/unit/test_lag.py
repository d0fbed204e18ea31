"""Where partitions end, as long as brokers tell."""

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from worker.lag import SILENT_S, Ends

INPUT = TopicPartition("in", 0)


class Scene:
    """Ends with a clock, and a broker that answers or raises."""

    def __init__(self) -> None:
        self.now_s, self.end = 100.0, 7
        self.error: KafkaError | TimeoutError | None = None
        self.ends = Ends(self._ask, clock=lambda: self.now_s)

    async def _ask(self) -> dict[TopicPartition, int]:
        if self.error:
            raise self.error
        return {INPUT: self.end}

    async def after(self, seconds: float) -> str | None:
        self.now_s += seconds
        await self.ends.look()
        return self.ends.silence()


@pytest.mark.parametrize("error", [KafkaConnectionError(), TimeoutError()])
async def test_a_broker_that_does_not_answer_is_silent_after_a_while(error: KafkaError | TimeoutError) -> None:
    """Not before: partitions may just be handed over. The words have the time and the error's name."""
    scene = Scene()
    assert await scene.after(SILENT_S + 1) is None
    scene.error = error
    assert await scene.after(SILENT_S) is None
    silence = await scene.after(1)
    assert silence == f"no broker has answered for 31 s ({type(error).__name__}): what is newer is not known"
    scene.error, scene.end = None, 9
    assert await scene.after(60) is None
    assert (scene.ends.of(INPUT), scene.ends.of(TopicPartition("in", 1))) == (9, None)


async def test_silence_begins_with_the_start() -> None:
    """A broker that has never answered is silent too."""
    scene = Scene()
    scene.error = KafkaConnectionError()
    assert await scene.after(SILENT_S) is None
    assert await scene.after(1)


async def test_a_denial_is_an_answer_that_ends_the_asking() -> None:
    """Asking again would not help."""
    scene = Scene()
    scene.error = TopicAuthorizationFailedError("in")
    with pytest.raises(TopicAuthorizationFailedError):
        await scene.after(1)
