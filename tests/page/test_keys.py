"""Which text a key is for, whatever the network, the browser and the topics do meanwhile."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route, WebSocketRoute, expect

from tests.audited import publish_audited
from tests.cluster import Kafka, Stream
from tests.page.seat import PATIENCE_MS, Seat, look, needs_chromium, press, seated, served
from tests.page.test_page import given_labels, labelled
from tests.page.test_watch import OVERFLOW

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

BUTTONS = re.compile(r"/static/js/Button\.\w+\.js")
ARABIC = "فيلم رائع"
CLASSES = ["**bold**", "<b>&amp;</b>", "😀", ARABIC, *(f"class {number}" for number in range(5, 101))]
HUGE = "long " * 200_000


class Line:
    """Between the page and its server: what the server says can be held back."""

    def __init__(self) -> None:
        self._held: list[tuple[WebSocketRoute, str | bytes]] = []
        self._is_held = False

    async def over(self, seat: Seat) -> None:
        await seat.page.route_web_socket(re.compile("_stcore/stream"), self._route)

    def hold(self) -> None:
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        for page, message in self._held:
            page.send(message)
        self._held.clear()

    def _route(self, page: WebSocketRoute) -> None:
        def take(message: str | bytes) -> None:
            if self._is_held:
                self._held.append((page, message))
            else:
                page.send(message)

        page.connect_to_server().on_message(take)


async def test_no_key_is_for_a_text_that_was_not_shown(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """However many are pressed while the next one is on its way; and the first one after it was shown is heard."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await publish_audited(stream, [(f"id-{number}", f"text {number}".encode()) for number in range(3)])
    line = Line()
    with served(stream, tmp_path) as page:
        async with seated(browser, page.url) as seat:
            await line.over(seat)
            await seat.open("label")
            await seat.sees("text 0")
            await look(seat.page)
            line.hold()
            for key in ("2", "1", "1", "s", "u"):
                await seat.page.keyboard.press(key)
            await labelled(stream, 1, "page-audit")
            await press(seat.page, "1")
            assert await seat.shown_text() == "text 0"
            line.release()
            await seat.sees("text 1")
            await press(seat.page, "1")
            await seat.sees("text 2")
            expected = [("id-0", "POSITIVE", "page-audit"), ("id-1", "NEGATIVE", "page-audit")]
            assert await given_labels(stream) == expected


async def test_a_key_waits_for_its_button(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """A browser shows a text before it has what draws buttons; the key is for this text, and for no other."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await publish_audited(stream, [(f"id-{number}", f"text {number}".encode()) for number in range(2)])
    is_free = asyncio.Event()

    async def late(route: Route) -> None:
        await is_free.wait()
        await route.continue_()

    with served(stream, tmp_path) as page:
        async with seated(browser, page.url) as seat:
            await seat.page.route(BUTTONS, late)
            await seat.open("label")
            await seat.sees("text 0")
            assert await seat.button("POSITIVE").count() == 0
            await press(seat.page, "2")
            is_free.set()
            await seat.sees("text 1")
            assert await given_labels(stream) == [("id-0", "POSITIVE", "page-audit")]


async def test_one_text_two_tabs(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """The second one says where the text is. The last label can be undone."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await publish_audited(stream, [("id-0", b"the only one")])
    with served(stream, tmp_path) as page:
        async with seated(browser, page.url) as anna, seated(browser, page.url) as ben:
            await anna.open("label")
            await anna.sees("the only one")
            await ben.open("label")
            await ben.sees("another labeller or another tab")
            await press(anna.page, "1")
            await anna.sees("all texts that are known here have a label")
            await ben.sees("all texts that are known here have a label")
            await press(anna.page, "u")
            await anna.sees("the only one")
            await press(anna.page, "2")
            await anna.sees("all texts that are known here have a label")
    both = [("id-0", "NEGATIVE", "page-audit"), ("id-0", "POSITIVE", "page-audit")]
    assert await given_labels(stream) == both


async def test_whatever_texts_and_classes_hold(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """A hundred classes, of which nine have keys; each name and text as it is, and nothing wider than a telephone."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1, max_message_bytes=2_000_000)
    texts = [HUGE, "<img src=x onerror=alert(1)> **bold** 😀", ARABIC, ""]
    await publish_audited(stream, [(f"id-{number}", text.encode()) for number, text in enumerate(texts)], CLASSES)
    with served(stream, tmp_path, STREAMGAUGE_TOPIC_MAX_MESSAGE_BYTES="2000000") as page:
        async with seated(browser, page.url, width_px=400) as seat:
            await seat.open("label")
            await seat.sees("long long")
            assert len(await seat.shown_text()) < 5_000
            for name in CLASSES:
                await expect(seat.page.get_by_role("button", name=name).first).to_be_visible(timeout=PATIENCE_MS)
            assert await seat.page.evaluate(OVERFLOW) <= 0
            await press(seat.page, "2")
            await seat.sees(texts[1])
            await look(seat.page)
            await seat.button("class 100").click()
            await seat.sees(ARABIC)
            text = seat.page.get_by_role("status").first
            await expect(text).to_have_css("direction", "rtl", timeout=PATIENCE_MS)
            await press(seat.page, "4")
            await seat.sees("Nothing to label just now")
    assert [label for _id, label, _of in await given_labels(stream)] == [CLASSES[1], CLASSES[99], ARABIC]
