"""The web page in a real browser, on a real Kafka: what is typed and clicked, and what then stands in the topics."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser

from streamgauge.events import decode_feedback
from tests.audited import publish_audited
from tests.cluster import Kafka, Stream
from tests.contract.test_worker import working
from tests.echo import echo_probability
from tests.page.seat import Seat, labels_of, look, needs_chromium, press, seated, served

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SECRET = "a-very-secret-review"
TEXTS = [f"audited {number}" for number in range(4)]


async def given_labels(stream: Stream) -> list[tuple[str, str, str | None]]:
    """Id, class and source of all labels, in the order in which they came."""
    records = sorted(await stream.read([stream.topics.feedback]), key=lambda record: (record.timestamp, record.offset))
    return [(one.id, one.label, one.source) for one in (decode_feedback(record.value) for record in records)]


async def labelled(stream: Stream, count: int, source: str) -> list[tuple[str, str]]:
    """The labels of this origin, once there are so many."""
    while len(found := labels_of(await given_labels(stream), source)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return found


async def texts(stream: Stream) -> list[bytes]:
    return [record.value for record in await stream.read([stream.topics.input])]


def predicted(text: str) -> tuple[str, str]:
    """What the echo model says, and what not."""
    return ("POSITIVE", "NEGATIVE") if echo_probability(text) > 0.5 else ("NEGATIVE", "POSITIVE")


async def test_a_text_comes_back_and_is_judged(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """Label and timings; a double click is one message, the same text again is another; a reload sends nothing."""
    stream = await Stream.create(kafka.bootstrap_servers)
    said, other = predicted(SECRET)
    with served(stream, tmp_path) as page:
        async with working(stream), seated(browser, page.url) as seat:
            await seat.open()
            await seat.write(SECRET)
            await seat.button("Send").dblclick()
            await seat.sees("Was this right?")
            await seat.sees(f"Yes, {said}")
            await seat.sees("in the model")
            assert await seat.page.get_by_label("A text").input_value() == ""
            await seat.button(f"Yes, {said}").dblclick()
            await seat.sees("Another answer corrects it")
            [(message_id, label)] = await labelled(stream, 1, "page-try")
            assert label == said
            await seat.page.reload()
            await seat.sees(f"You said {said}")
            await seat.sees(SECRET)
            await seat.button(f"No, {other}").click()
            await seat.sees(f"You said {other}")
            assert await labelled(stream, 2, "page-try") == [(message_id, said), (message_id, other)]
            assert len(await texts(stream)) == 1
            await seat.send(SECRET)
            await seat.sees("Was this right?")
            assert len(await texts(stream)) == 2
            await seat.send("  \n ")
        assert len(await texts(stream)) == 2
        page.process.terminate()
        assert page.process.wait(timeout=20) == 0
    log = page.log.read_text()
    assert SECRET not in log
    assert said not in log


async def test_nobody_answers_yet(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """Without a worker the page says what it waits for; the result then comes by itself. What Kafka refuses is told."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1, max_message_bytes=2048)
    with served(stream, tmp_path, STREAMGAUGE_TOPIC_MAX_MESSAGE_BYTES="2048") as page:
        async with seated(browser, page.url) as seat:
            await seat.open()
            await seat.send("a slow one")
            await seat.sees("no worker has answered yet")
            await seat.sees("Texts that wait for one: 1")
            async with working(stream):
                await seat.sees("Was this right?")
            await seat.send("x" * 4000)
            await seat.sees("is too large")
            await seat.send("another")
            await seat.sees("no worker has answered yet")
    assert [len(value) < 2048 for value in await texts(stream)] == [True, True]


async def test_one_key_a_label(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """The audit first, its oldest text first; skip, undo and a correction; then what the model was unsure of."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await publish_audited(stream, [(f"id-{number}", text.encode()) for number, text in enumerate(TEXTS)])
    with served(stream, tmp_path) as page:
        async with working(stream, audit_share=0.0), seated(browser, page.url) as seat:
            keys = seat.page.keyboard
            await seat.open("label")
            await seat.sees(TEXTS[0])
            await seat.sees("audited texts left: 4")
            body = await seat.page.locator("body").inner_text()
            assert "0.75" not in body
            assert "75" not in body
            await press(seat.page, "2")
            await seat.sees(TEXTS[1])
            await press(seat.page, "s")
            await seat.sees(TEXTS[2])
            await press(seat.page, "1")
            await seat.sees(TEXTS[3])
            await press(seat.page, "u")
            await seat.sees(TEXTS[2])
            await press(seat.page, "2")
            await seat.sees(TEXTS[3])
            await seat.sees("Labelled now: 2")
            audit = [("id-0", "POSITIVE"), ("id-2", "NEGATIVE"), ("id-2", "POSITIVE")]
            assert await labelled(stream, 3, "page-audit") == audit
            await look(seat.page)
            for _repeat in range(30):  # a key that is held down: once is meant
                await keys.down("1")
            await keys.up("1")
            await seat.sees("the model was not sure")
            assert await labelled(stream, 4, "page-audit") == [*audit, ("id-3", "NEGATIVE")]
            uncertain = await seat.shown_text()
            await look(seat.page)
            await seat.button("NEGATIVE").dblclick()
            await seat.sees("at random among")
            assert await seat.shown_text() != uncertain
            await press(seat.page, "2")
            [(uncertain_id, _label)] = await labelled(stream, 1, "page-uncertain")
            [(random_id, _label)] = await labelled(stream, 1, "page-random")
            assert len({uncertain_id, random_id}) == 2
            assert len(await given_labels(stream)) == 6
    assert TEXTS[0] not in page.log.read_text()


async def test_two_labellers_get_different_texts(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """Both at once, until all have a label; each text has one."""
    stream = await Stream.create(kafka.bootstrap_servers)
    every = [(f"id-{number}", f"a text {number}".encode()) for number in range(12)]
    await publish_audited(stream, every)
    with served(stream, tmp_path) as page:
        async with seated(browser, page.url) as anna, seated(browser, page.url) as ben:

            async def label_all(seat: Seat) -> None:
                await seat.open("label")
                await seat.sees("audited texts left")
                while not await seat.page.get_by_text("Nothing to label just now").count():
                    await press(seat.page, "2")

            await asyncio.gather(label_all(anna), label_all(ben))
            for seat in (anna, ben):
                await seat.sees("Nothing to label just now")
    found = await given_labels(stream)
    assert sorted(message_id for message_id, *_ in found) == sorted(message_id for message_id, _text in every)
