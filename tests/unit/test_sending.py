"""What `produce` and `feedback` say and send when not all goes well, on a fake Kafka."""

import asyncio
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producer import command, corpus
from producer.command import Texts, given_labels, given_texts, publish_labels, publish_texts
from producer.corpus import Sample
from producer.pacing import Pace
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import Feedback
from streamgauge.labels import Classes
from streamgauge.settings import KafkaSettings, TopicSettings, load
from streamgauge.terminal import counted
from tests.fake_kafka import TOPICS, FakeKafka, acknowledge, acknowledge_late, kafka, refuse

__all__ = ["kafka"]  # the fixture

SETTINGS = load(KafkaSettings, connect_timeout_s=60)
LIMIT_BYTES = TOPICS.max_message_bytes


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> list[Classes]:
    """The classes that the latest results carry."""
    found: list[Classes] = [("neg", "neu", "pos")]

    async def latest_classes(_kafka: KafkaSettings, topic: str) -> list[Classes]:
        assert topic == TOPICS.results
        return found

    async def result_of(_kafka: KafkaSettings, _topics: TopicSettings, _message_id: str) -> None:
        """Results may not be read."""

    monkeypatch.setattr(command, "latest_classes", latest_classes)
    monkeypatch.setattr(command, "result_of", result_of)
    return found


def sent(kafka: FakeKafka, field: str) -> list[Any]:
    """One field of each record's JSON, in order."""
    return [msgspec.json.decode(value).get(field) for _topic, value, _key, _headers in kafka.sent]


def refusing(after: int) -> Callable[[asyncio.Future[None]], None]:
    """A Kafka that takes so many records, and no more."""
    count = itertools.count(1)

    def outcome(sending: asyncio.Future[None]) -> None:
        (acknowledge if next(count) <= after else refuse)(sending)

    return outcome


async def produce(texts: Texts, stop: asyncio.Event | None = None, tell: Callable[[str], bool] | None = None) -> None:
    await publish_texts(SETTINGS, TOPICS, texts, Pace(None), tell, stop or asyncio.Event())


async def feedback(given: Any, meant: dict[str, str] | None = None) -> None:
    await publish_labels(SETTINGS, TOPICS, given, meant or {}, asyncio.Event())


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of ten texts, after two rows without one."""
    path = tmp_path / "ten.txt"
    path.write_text("\n\n" + "".join(f"text {number}\n" for number in range(10)))
    return path


async def test_all_is_told(kafka: FakeKafka, lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many were published, and how many rows had no text."""
    await produce(given_texts([], lines, 0, LIMIT_BYTES))

    assert len(kafka.sent) == 10
    assert capsys.readouterr().err == "published 10 texts to sentiment.input; rows without one: 2\n"


async def test_kafka_fails_midway(kafka: FakeKafka, lines: Path) -> None:
    """What is delivered is told, and a second run with the option that is named sends the rest: all are there once."""
    kafka.outcome = refusing(after=4)
    with pytest.raises(StreamgaugeError, match=r"published 4 of 10 texts .* add: --skip 4$") as failed:
        await produce(given_texts([], lines, 0, LIMIT_BYTES))
    assert failed.value.exit_code == 1
    delivered = sent(kafka, "id")[:4]

    kafka.sent, kafka.outcome = [], acknowledge
    await produce(given_texts([], lines, 4, LIMIT_BYTES))

    assert sent(kafka, "text") == [f"text {number}" for number in range(4, 10)]
    assert len({*delivered, *sent(kafka, "id")}) == 10


async def test_stopped_midway(kafka: FakeKafka) -> None:
    """A signal ends it at once; the exit code says that it was not all."""
    stop = asyncio.Event()

    def stopping(sending: asyncio.Future[None]) -> None:
        if len(kafka.sent) == 30:
            stop.set()
        acknowledge(sending)

    kafka.outcome = stopping
    endless = (Sample(str(number)) for number in itertools.count())
    with pytest.raises(StreamgaugeError, match=r"stopped; published 30 texts to .*; to go on there, add: --skip 37$"):
        await produce(Texts(endless, None, 7), stop)


async def test_nobody_reads_the_ids(kafka: FakeKafka) -> None:
    """When standard output is closed no more is published, and that is said."""
    given = given_texts([str(number) for number in range(3000)], None, 0, LIMIT_BYTES)
    heard = iter([True, True, False])

    with pytest.raises(StreamgaugeError, match="nobody reads the message ids any more; published 3 of 3000 texts"):
        await produce(given, tell=lambda _line: next(heard))

    assert len(kafka.sent) == 3


async def test_standard_input_breaks_late(kafka: FakeKafka, tmp_path: Path) -> None:
    """It cannot be checked before: the line is named, and what was sent before it, once Kafka has that."""
    kafka.outcome = acknowledge_late
    content = b"one\n\ntwo\n" + b"x" * 2_000_000 + b"\nthree\n"

    with pytest.raises(StreamgaugeError, match=r"(?s)line 4: a record of .*\npublished 2 texts .*--skip 2$") as failed:
        await produce(standard_input(tmp_path, content))

    assert (failed.value.exit_code, len(kafka.sent)) == (1, 2)


async def test_standard_input_without_texts(kafka: FakeKafka, tmp_path: Path) -> None:
    """Nothing published is an error."""
    with pytest.raises(ConfigurationError, match="no text on standard input"):
        await produce(standard_input(tmp_path, b"\n \n"))
    assert not kafka.sent


def standard_input(folder: Path, content: bytes) -> Texts:
    """What is given when `content` stands on standard input."""
    (folder / "stdin").write_bytes(content)
    return Texts(corpus.standard_input(LIMIT_BYTES, os.open(folder / "stdin", os.O_RDONLY)), None, 0)


@pytest.mark.parametrize(("texts", "file", "skip", "why"), [
    (["a"], "f", 0, "either texts or --file"),
    (["a", "b"], None, 2, "--skip 2: there are 2 texts, so nothing is left"),
])  # fmt: skip
def test_nothing_to_publish(texts: list[str], file: str | None, skip: int, why: str) -> None:
    """What would publish nothing, or something unclear, is refused."""
    with pytest.raises(ConfigurationError, match=why):
        given_texts(texts, Path(file) if file else None, skip, LIMIT_BYTES)


async def test_labels_are_sent_as_the_model_names_them(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any case, by number where all are there, or as the user says; rows without one are counted."""
    (tmp_path / "l.csv").write_text("id,label\na,2\nb,1.0\nc,0\nd,\n")
    await feedback(given_labels(None, None, None, tmp_path / "l.csv"))
    await feedback(given_labels("e", " POS ", "anna", None))
    await feedback(given_labels("f", "good", None, None), {"good": "pos"})

    assert sent(kafka, "id") == ["a", "b", "c", "e", "f"]
    assert sent(kafka, "label") == ["pos", "neu", "neg", "pos", "pos"]
    assert capsys.readouterr().err.splitlines()[0] == "sent 3 labels to sentiment.feedback; rows without one: 1"


async def test_labels_that_fit_no_class(kafka: FakeKafka, tmp_path: Path) -> None:
    """Nothing is sent, each is named with its count, and the exit code is 1; unless the user means it."""
    (tmp_path / "l.csv").write_text("id,label\na,pos\nb,4\nc,4\n")
    given = given_labels(None, None, None, tmp_path / "l.csv")

    with pytest.raises(StreamgaugeError, match=r"2 of 3 labels fit no class .*\(neg, neu, pos\): 4 \(2\)") as refused:
        await feedback(given)
    assert (refused.value.exit_code, kafka.sent) == (1, [])

    await feedback(given, {"4": ""})
    await feedback(given, {"4": "4"})
    assert sent(kafka, "label") == ["pos", "pos", "4", "4"]


@pytest.mark.parametrize(
    ("message_id", "label", "why"),
    [
        ("producer/…", "pos", r"producer/… stands for an id"),
        ("...", "pos", r"\.\.\. stands for an id"),
        ("<id>", "pos", r"<id> stands for an id"),
        ("pos", "producer/4f1c", "the id comes first, then the label: streamgauge feedback producer/4f1c pos"),
        ("nonsense", "shop.input-0-17", "the id comes first, then the label: streamgauge feedback shop.input-0-17 non"),
    ],
)
def test_arguments_that_cannot_be_meant(message_id: str, label: str, why: str) -> None:
    """Before Kafka is asked: what the README writes for an id, and an id where the label belongs."""
    with pytest.raises(ConfigurationError, match=why):
        given_labels(message_id, label, None, None)


async def test_a_class_where_the_id_belongs(kafka: FakeKafka) -> None:
    """Own ids may look like anything; classes are known."""
    with pytest.raises(ConfigurationError, match="the id comes first, then the label: streamgauge feedback m1 pos"):
        await feedback(given_labels("pos", "m1", None, None))
    assert not kafka.sent


async def test_labels_before_any_result(
    kafka: FakeKafka, models: list[Classes], capsys: pytest.CaptureFixture[str]
) -> None:
    """They are sent as they are, and it is said that nothing could be checked."""
    models.clear()
    await feedback(Feedback(id="a", label="Whatever"))

    assert sent(kafka, "label") == ["Whatever"]
    assert "no result could be read that says whether they fit" in capsys.readouterr().err


async def test_labels_break_off(kafka: FakeKafka, tmp_path: Path) -> None:
    """What was sent is told, and that sending all again does no harm."""
    (tmp_path / "l.csv").write_text("id,label\n" + "a,pos\n" * 10)
    kafka.outcome = refusing(after=3)

    with pytest.raises(StreamgaugeError, match=r"sent 3 labels .* all may be sent again"):
        await feedback(given_labels(None, None, None, tmp_path / "l.csv"))


async def test_stopped_while_kafka_is_silent(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, lines: Path) -> None:
    """A signal ends the wait for Kafka too, and nothing is said to be sent that is not."""
    monkeypatch.setattr(command, "STOP_PATIENCE_S", 0.01)
    stop = asyncio.Event()
    count = itertools.count(1)

    def outcome(sending: asyncio.Future[None]) -> None:
        number = next(count)
        if number <= 3:
            acknowledge(sending)
        if number == 10:
            asyncio.get_running_loop().call_soon(stop.set)

    kafka.outcome = outcome
    async with asyncio.timeout(SETTINGS.connect_timeout_s / 2):
        with pytest.raises(StreamgaugeError, match=r"stopped; published 3 of 10 texts .*--skip 3$"):
            await produce(given_texts([], lines, 0, LIMIT_BYTES), stop)


async def test_stopped_before_kafka_was_reached() -> None:
    """A signal ends the wait for a broker, and the exit code says that nothing was sent."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    nowhere = SETTINGS.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})

    given = given_texts(["x"], None, 0, LIMIT_BYTES)

    async with asyncio.timeout(SETTINGS.connect_timeout_s / 2):
        with pytest.raises(StreamgaugeError, match="stopped before Kafka was reached; nothing was sent") as stopped:
            await publish_texts(nowhere, TOPICS, given, Pace(None), None, stop)
    assert stopped.value.exit_code == 1


def test_one_is_no_plural() -> None:
    """The first thing that a newcomer is told."""
    assert [counted(n, "text") for n in (0, 1, 2)] == ["0 texts", "1 text", "2 texts"]
