"""The page while Kafka is away: it says so, keeps what was given to it, and sends it once when Kafka is back."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser

from streamgauge.broker.embedded import EmbeddedKafka
from tests.audited import publish_audited
from tests.cluster import Stream
from tests.contract.test_worker import working
from tests.page.seat import needs_chromium, press, seated, served
from tests.page.test_page import given_labels, labelled, texts
from tests.stack.running import free_port

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_nothing_is_lost_and_nothing_sent_twice(kafka_version: str, browser: Browser, tmp_path: Path) -> None:
    """A text and a label that are given while no broker answers; clicked twice, and the page loaded again meanwhile."""
    port = free_port()
    first = EmbeddedKafka(version=kafka_version, data_dir=tmp_path / "kafka", port=port)
    await asyncio.to_thread(first.start)
    again = None
    try:
        stream = await Stream.create(first.bootstrap_servers, partitions=1)
        await publish_audited(stream, [("id-0", b"audited")])
        with served(stream, tmp_path) as page:
            async with seated(browser, page.url) as anna, seated(browser, page.url) as ben:
                await ben.open("label")
                await ben.sees("audited texts left: 1")
                await anna.open()
                await asyncio.to_thread(first.stop)
                await anna.sees("has not answered for")
                await anna.write("sent in the dark")
                await anna.button("Send").dblclick()
                await anna.sees("It is kept here, and will be sent once")
                await anna.page.reload()
                await anna.sees("It is kept here, and will be sent once")
                await press(ben.page, "2")
                await ben.sees("Not sent yet: 2")
                again = EmbeddedKafka(version=kafka_version, data_dir=tmp_path / "kafka", port=port)
                await asyncio.to_thread(again.start)
                await anna.sees_no_more("has not answered for")
                async with working(stream):
                    await anna.sees("Was this right?")
                await ben.sees_no_more("Not sent yet")
            assert await labelled(stream, 1, "page-audit") == [("id-0", "POSITIVE")]
            assert len(await given_labels(stream)) == 1
            sent = [value for value in await texts(stream) if b"sent in the dark" in value]
            assert len(sent) == 1
        log = page.log.read_text()
        assert "sent in the dark" not in log
        assert "POSITIVE" not in log
        assert "Traceback" not in log
    finally:
        for broker in (first, again):
            if broker:
                await asyncio.to_thread(broker.stop)
