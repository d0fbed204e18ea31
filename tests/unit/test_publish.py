"""Records as they are sent, the publisher's answer for each, and the loop that feeds it, on a fake Kafka."""

import asyncio
import itertools
import threading
from collections.abc import Iterator

import msgspec
import pytest
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from producer import publish as module
from producer.corpus import Sample
from producer.pacing import Pace
from producer.publish import Publisher, feedback_record, publish, text_record
from producer.read_ahead import MAX_AHEAD
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import Feedback, TextSubmitted, decode_feedback, last_header
from streamgauge.settings import KafkaSettings, TopicSettings, load
from tests.fake_kafka import TOPICS, FakeKafka, kafka, refuse, refuse_as_too_large, stay_silent

__all__ = ["kafka"]  # the fixture

NOW = "2026-01-02T03:04:05.678Z"


def publisher_of(*, patience_s: float = 60) -> Publisher:
    """A publisher that gives a silent Kafka up after `patience_s`."""
    return Publisher(load(KafkaSettings, connect_timeout_s=patience_s), TOPICS)


def test_text_is_sent_bare() -> None:
    """A text's record is its UTF-8 and nothing else, with CloudEvents attributes that make its message id."""
    value, headers = text_record(Sample("schön", "POSITIVE"), source="shop", ce_id="7", now=NOW)

    assert value == "schön".encode()
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7",
        "ce_type": b"streamgauge.text.v1",
        "ce_source": b"shop",
        "ce_time": NOW.encode(),
        "content-type": b"text/plain; charset=utf-8",
    }


@pytest.mark.parametrize("text", ['{"not": json', "  {curly}", "\0leading zero"])
def test_text_that_looks_like_something_else(text: str) -> None:
    """A text that a reader would take for JSON or for framed bytes is sent as JSON and arrives as it is."""
    value, headers = text_record(Sample(text), source="shop", ce_id="7", now=NOW)

    assert msgspec.json.decode(value, type=TextSubmitted) == TextSubmitted(text=text)
    assert last_header(headers, "content-type") == b"application/json"
    assert last_header(headers, "ce_id") == b"7"


def test_text_with_an_id_of_its_own() -> None:
    """It is sent as JSON with that id, which is the id of its result."""
    value, headers = text_record(Sample("schön", id="r7"), source="shop", ce_id="r7", now=NOW)

    assert msgspec.json.decode(value, type=TextSubmitted) == TextSubmitted(text="schön", id="r7")
    assert last_header(headers, "content-type") == b"application/json"


def test_feedback_is_keyed_by_id() -> None:
    """A label's key is its message id, so that one partition orders all labels for it."""
    feedback = Feedback(id="shop/7", label="POSITIVE", source="anna")
    key, value, headers = feedback_record(feedback, now=NOW)

    assert key == b"shop/7"
    assert decode_feedback(value) == feedback
    assert last_header(headers, "ce_type") == b"streamgauge.feedback.v1"
    assert last_header(headers, "content-type") == b"application/json"


@pytest.mark.parametrize("feedback", [Feedback(id="", label="A"), Feedback(id="a", label="x" * 129)])
def test_feedback_has_limits(feedback: Feedback) -> None:
    """A label that the listener would reject is refused before it is sent."""
    with pytest.raises(ConfigurationError, match="not a label that can be published"):
        feedback_record(feedback, now=NOW)


async def test_texts_and_labels_reach_their_topics(kafka: FakeKafka) -> None:
    """The id that `text` returns is the sample's own, else the one in the record's headers."""
    async with publisher_of() as publisher:
        own = await publisher.text(Sample("good", id="7"))
        made = await publisher.text(Sample("bad"))
        await publisher.feedback(Feedback(id=own, label="POSITIVE"))

    assert own == "7"
    assert msgspec.json.decode(kafka.sent[0][1])["id"] == "7"
    assert [record[0] for record in kafka.sent] == [TOPICS.input, TOPICS.input, TOPICS.feedback]
    attributes = dict(kafka.sent[1][3])
    assert made.encode() == attributes["ce_source"] + b"/" + attributes["ce_id"]
    assert [record[2] for record in kafka.sent] == [None, None, b"7"]
    assert publisher.delivered == 3
    assert kafka.closed


async def test_safe_delivery_is_asked_for(kafka: FakeKafka) -> None:
    """Records are acknowledged by all replicas, never doubled by a retry, and no batch is over the topic's limit."""
    topics = load(TopicSettings, max_message_bytes=2048)
    async with Publisher(load(KafkaSettings), topics):
        pass

    assert kafka.options["enable_idempotence"]
    assert kafka.options["acks"] == "all"
    assert kafka.options["max_batch_size"] == kafka.options["max_request_size"] == 2048


async def test_missing_topic(kafka: FakeKafka) -> None:
    """Without its topic nothing is sent, and the command that makes it is named."""
    kafka.topics = []

    with pytest.raises(ConfigurationError, match=r"topic sentiment\.input does not exist\nrun: streamgauge topics"):
        async with publisher_of() as publisher:
            await publisher.text(Sample("good"))

    assert not kafka.sent


async def test_text_over_the_limit(kafka: FakeKafka) -> None:
    """A text that is too large is refused with its size and the limit, and the next one is still sent."""
    async with publisher_of() as publisher:
        kafka.refuse_to_send = MessageSizeTooLargeError()
        with pytest.raises(StreamgaugeError, match=r"9 bytes is too large for .*1048588 bytes.*_MAX_MESSAGE_BYTES"):
            await publisher.text(Sample("too large"))
        kafka.refuse_to_send = None
        await publisher.text(Sample("fine"))

    assert publisher.delivered == 1


async def test_failed_send_is_told(kafka: FakeKafka) -> None:
    """A record that Kafka refuses later fails the flush, and whatever would follow it."""
    kafka.outcome = refuse
    publisher = await publisher_of().__aenter__()
    await publisher.text(Sample("good"))

    with pytest.raises(StreamgaugeError, match=r"failed: 1, delivered: 0; RecordListTooLarge"):
        await publisher.flush()
    with pytest.raises(StreamgaugeError, match="failed: 1"):
        await publisher.text(Sample("good"))

    assert (publisher.delivered, publisher.failed, len(kafka.sent)) == (0, 1, 1)


async def test_delivered_from_the_start(kafka: FakeKafka) -> None:
    """What is delivered without a gap is known, in whatever order Kafka acknowledges: from there one can go on."""
    waiting: list[asyncio.Future[None]] = []
    kafka.outcome = waiting.append
    publisher = await publisher_of().__aenter__()
    for number in range(5):
        await publisher.text(Sample(f"text {number}"))
    delivered = []
    for settled in (waiting[1], waiting[0], waiting[3]):
        settled.set_result(None)
        await asyncio.sleep(0)
        delivered.append((publisher.delivered, publisher.delivered_from_start))
    waiting[2].set_exception(RecordListTooLargeError())
    waiting[4].set_result(None)
    await asyncio.sleep(0)

    assert delivered == [(1, 0), (2, 2), (3, 2)]
    assert (publisher.delivered, publisher.delivered_from_start, publisher.failed) == (4, 2, 1)


async def test_topic_with_a_lower_limit(kafka: FakeKafka) -> None:
    """When only the topic's own limit is exceeded, the command that sets it right is named."""
    kafka.outcome = refuse_as_too_large
    publisher = await publisher_of().__aenter__()
    await publisher.text(Sample("good"))

    with pytest.raises(StreamgaugeError, match=r"max\.message\.bytes.*run: streamgauge topics create"):
        await publisher.flush()


async def test_leaving_checks_every_send(kafka: FakeKafka) -> None:
    """Who forgets to flush is told of a failed record all the same, and the connection is closed."""
    kafka.outcome = refuse
    publisher = await publisher_of().__aenter__()
    await publisher.text(Sample("good"))

    with pytest.raises(StreamgaugeError, match="failed: 1"):
        await publisher.__aexit__(None, None, None)

    assert kafka.closed


async def test_backpressure(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many records wait for Kafka, and all of them arrive."""
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED", 3)
    async with publisher_of() as publisher:
        for number in range(20):
            await publisher.text(Sample(f"text {number}"))

    assert kafka.most_pending == 3
    assert publisher.delivered == 20


async def test_silent_kafka(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that acknowledges nothing ends the wait for room, and the wait for all records."""
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED", 1)
    kafka.outcome = stay_silent
    publisher = await publisher_of(patience_s=0.01).__aenter__()
    await publisher.text(Sample("good"))

    silence = r"nothing for 0\.01 s; 0 records are delivered, of 1 it is not known"
    with pytest.raises(StreamgaugeError, match=silence):
        await publisher.text(Sample("good"))
    with pytest.raises(StreamgaugeError, match=silence):
        await publisher.flush()


class Taken(list[str]):
    """Takes texts and remembers them."""

    async def text(self, sample: Sample) -> str:
        self.append(sample.text)
        return f"producer/{len(self)}"


def numbered() -> Iterator[Sample]:
    """Texts without end."""
    return (Sample(str(number)) for number in itertools.count())


async def test_publishing_in_order() -> None:
    """All texts are sent in order, each told with its id."""
    taken, told = Taken(), []
    samples = list(itertools.islice(numbered(), 3 * MAX_AHEAD))

    count = await publish(taken.text, samples, Pace(None), asyncio.Event(), lambda *sent: told.append(sent))

    assert count == 3 * MAX_AHEAD
    assert taken == [sample.text for sample in samples]
    assert told == [(sample, f"producer/{n}") for n, sample in enumerate(samples, 1)]


async def test_stop_during_a_pause() -> None:
    """Stopping does not wait until the next text is due."""
    taken, stop = Taken(), asyncio.Event()

    count = await publish(taken.text, numbered(), Pace(0.0001), stop, lambda *_sent: stop.set())

    assert count == 1


async def test_stop_while_the_source_blocks() -> None:
    """Stopping does not wait for a source that has nothing to say."""
    taken, stop, released = Taken(), asyncio.Event(), threading.Event()

    def terminal() -> Iterator[Sample]:
        yield Sample("typed")
        released.wait()
        yield Sample("typed too late")

    try:
        count = await publish(taken.text, terminal(), Pace(None), stop, lambda *_sent: stop.set())
    finally:
        released.set()

    assert (count, taken) == (1, ["typed"])


async def test_slow_source_is_not_held_back() -> None:
    """A text is sent as soon as it is read, not when many have come together."""
    taken, was_sent = Taken(), threading.Event()

    def terminal() -> Iterator[Sample]:
        for number in range(3):
            was_sent.clear()
            yield Sample(str(number))
            assert was_sent.wait(timeout=30)

    await publish(taken.text, terminal(), Pace(None), asyncio.Event(), lambda *_sent: was_sent.set())

    assert taken == ["0", "1", "2"]


async def test_reading_ahead_is_bounded() -> None:
    """A source without end is read no further than a bound past what is sent."""
    taken, stop, read = Taken(), asyncio.Event(), itertools.count()

    def told(_sample: Sample, _identity: str) -> None:
        if len(taken) == 5 * MAX_AHEAD:
            stop.set()

    samples = (Sample(str(next(read))) for _ in itertools.count())
    assert await publish(taken.text, samples, Pace(None), stop, told) == 5 * MAX_AHEAD

    assert next(read) <= 7 * MAX_AHEAD + 1


async def test_broken_source() -> None:
    """What a source raises is raised, after the texts before it have been sent."""
    taken = Taken()

    def broken() -> Iterator[Sample]:
        yield Sample("fine")
        raise ConfigurationError("line 2: broken")

    with pytest.raises(ConfigurationError, match="line 2: broken"):
        await publish(taken.text, broken(), Pace(None), asyncio.Event(), lambda *_sent: None)

    assert taken == ["fine"]
