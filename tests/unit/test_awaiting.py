"""What `produce --wait` makes of what it reads."""

from producer.awaiting import Awaited
from streamgauge.events import CONNECT_ERRORS, ModelRef, Position, Prediction, Timings, encode
from streamgauge.settings import TopicSettings
from tests.records import FakeRecord

TOPICS = TopicSettings()


def result(message_id: str, key: bytes | None = None) -> FakeRecord:
    event = Prediction(
        id=message_id,
        label="POSITIVE",
        score=0.9771,
        scores={"NEGATIVE": 0.0229, "POSITIVE": 0.9771},
        model=ModelRef(name="m", version="1", digest="d"),
        timings=Timings(tokenize_s=0, queue_s=0, infer_s=0),
        source=Position(topic="t", partition=0, offset=0, timestamp_ms=0),
        tokens=3,
        truncated=False,
    )
    return FakeRecord(encode(event), 0, key or message_id.encode(), topic=TOPICS.results)


def letter(source: bytes, event_id: bytes) -> FakeRecord:
    error = (f"{CONNECT_ERRORS}exception.class.name", b"inference_failed")
    headers = ("ce_source", source), ("ce_id", event_id), error
    return FakeRecord(b"the text", 0, None, headers, topic=TOPICS.dead_letter)


def test_each_outcome_is_a_line_once() -> None:
    """Label, score and id; or why there is none. What a stranger wrote is left out."""
    awaited = Awaited(TOPICS, ["producer/a", "producer/b", "producer/c"])
    broken = FakeRecord(b"{", 0, b"producer/a", topic=TOPICS.results)
    assert [
        awaited.line(record) for record in (broken, result("x"), result("x", b"producer/a"), letter(b"x", b"a"))
    ] == [None] * 4
    assert awaited.line(result("producer/b")) == "POSITIVE  0.977  producer/b"
    assert awaited.line(letter(b"producer", b"a")) == "not scored: inference_failed  producer/a"
    assert awaited.line(result("producer/b")) is None
    assert (list(awaited.left), awaited.refused) == (["producer/c"], 1)
