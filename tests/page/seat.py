"""Somebody who sits before the page: a real Chromium without a screen, and the page as it is started."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Locator, Page, Request, async_playwright, expect

from tests.cluster import Stream
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, environment_of

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="NOT PROVEN: no chromium here: apt-get install chromium, or CHROMIUM=…"
)
PATIENCE_MS = 90_000
"""A machine that does other things as well takes its time."""
WIDTHS_PX = (400, 1400)
Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Served:
    """A page that is served, and where its log is."""

    url: str
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def served(stream: Stream, folder: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """`streamgauge app` on this stream, at a port of its own."""
    log = folder / f"app-{stream.topics.prefix}.log"
    command = [sys.executable, "-m", "streamgauge", "app", "--http-port", "0", *arguments]
    settings = QUIET_ENVIRONMENT | environment_of(stream) | {"STREAMGAUGE_LOG_LEVEL": "debug"} | environment
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout
        said = re.search(r"http://\S+", process.stdout.readline())
        assert said, log.read_text()
        yield Served(said[0], process, log)
    finally:
        process.kill()
        process.communicate()


@dataclass
class Seat:
    """One person's browser tab. All that it asked anybody but the page for is an accident."""

    page: Page
    url: str
    strangers: list[str] = field(default_factory=list)

    async def open(self, path: str = "", **query: str) -> None:
        """Go there, and wait for the view."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        await self.page.goto(f"{self.url}/{path}?{asked}")
        await self.page.get_by_role("heading", level=1).wait_for()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    async def write(self, text: str) -> None:
        """Into the one that is there, when that of the last text has gone."""
        box = self.page.get_by_label("A text")
        await expect(box).to_have_count(1, timeout=PATIENCE_MS)
        await box.fill(text)

    async def send(self, text: str) -> None:
        """Type a text, and send it."""
        await self.write(text)
        await self.button("Send").click()

    async def sees(self, text: str) -> None:
        """Wait until it is there."""
        await self.page.get_by_text(text).first.wait_for()

    async def sees_no_more(self, text: str) -> None:
        await self.page.get_by_text(text).first.wait_for(state="detached")

    async def shown_text(self) -> str:
        """The text that is to be labelled."""
        return await self.page.get_by_role("status").first.inner_text()

    async def picture(self, path: Path, height_px: int) -> None:
        """All of it, once charts are drawn."""
        size = self.page.viewport_size
        assert size
        await self.page.set_viewport_size({"width": size["width"], "height": height_px})
        await self.page.screenshot(path=path)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # As root there is no sandbox; nothing but our own page is opened.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def seated(
    browser: Browser, url: str, *, width_px: int = WIDTHS_PX[1], scheme: Scheme = "light", height_px: int = 900
) -> AsyncIterator[Seat]:
    """A person of their own: no cookie is shared."""
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width_px, "height": height_px}, locale="en-GB"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    seat = Seat(page, url)

    def note(request: Request) -> None:
        if not request.url.startswith((url, url.replace("http", "ws"), "data:", "blob:")):
            seat.strangers.append(request.url)

    page.on("request", note)
    yield seat
    assert seat.strangers == [], "the page asks others"
    await context.close()


A_LOOK = """() => window.streamgaugeKeys && new Promise(
    (seen) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => seen(true), 250))))"""


async def look(page: Page) -> None:
    """As long as a person needs at least, by the page's clock, from when what it has now was painted."""
    await page.wait_for_function(A_LOOK)


async def press(page: Page, key: str) -> None:
    """As a person does: after a look."""
    await look(page)
    await page.keyboard.press(key)


def labels_of(records: Sequence[tuple[str, str, str | None]], source: str) -> list[tuple[str, str]]:
    """Ids and labels of one origin, in their order."""
    return [(message_id, label) for message_id, label, of in records if of == source]
