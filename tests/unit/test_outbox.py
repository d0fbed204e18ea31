"""What the page is to send: known by its key, and bounded. That it arrives once is shown in `tests/page`."""

import pytest

from producer.publish import Publisher
from streamgauge.commands.page.outbox import MAX_WAITING, Outbox
from streamgauge.errors import StreamgaugeError
from streamgauge.settings import KafkaSettings, TopicSettings


async def nothing(_publisher: Publisher) -> None:
    """What is never sent here."""


async def test_a_key_is_taken_once() -> None:
    """And is known afterwards."""
    outbox = Outbox(KafkaSettings(), TopicSettings())
    assert outbox.get("a") is None
    assert outbox.waited_s == 0
    first = outbox.put("a", nothing)
    assert outbox.put("a", nothing) is first is outbox.get("a")
    assert (outbox.waiting, first.is_delivered) == (1, False)
    assert outbox.waited_s >= 0


async def test_more_than_it_can_hold_is_refused() -> None:
    """Nothing that was taken is forgotten for it."""
    outbox = Outbox(KafkaSettings(), TopicSettings())
    for number in range(MAX_WAITING):
        outbox.put(str(number), nothing)
    with pytest.raises(StreamgaugeError, match="wait to be sent already"):
        outbox.put("one more", nothing)
    assert outbox.get("one more") is None
    assert outbox.waiting == MAX_WAITING
