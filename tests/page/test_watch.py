"""*Watch* in a real browser: the numbers are those of the listener and of the topics; for every eye, and for none."""

import itertools
import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.cluster import Kafka, Stream
from tests.contract.test_worker import working
from tests.end_to_end.test_commands import environment_of, service
from tests.oracle import Input
from tests.page.scored import EVIL, scored_and_labelled
from tests.page.seat import PATIENCE_MS, WIDTHS_PX, Scheme, Seat, needs_chromium, press, seated, served

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
VERDICT = re.compile("✓ right|✗ wrong")
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
VIEWS = ("", "label", "watch")


async def test_the_numbers_are_those_of_the_topics(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """Accuracy with interval and labels, of the audit and of all; classes; lag; the last judgements with texts."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with working(stream, audit_share=1.0):
        await scored_and_labelled(stream, 45, 5)
        with (
            service("-m", "streamgauge", "listen", **environment_of(stream)) as (_process, port, _log),
            served(stream, tmp_path, "--listeners", f"http://127.0.0.1:{port}") as page,
        ):
            async with seated(browser, page.url) as seat:
                await seat.open("watch")
                await seat.sees("78.6 to 95.7 %, from 50 labels")  # Wilson's
                await expect(seat.page.get_by_text("90.0 %")).to_have_count(2, timeout=PATIENCE_MS)
                await seat.sees("Model: echo@1")
                await seat.sees("Texts that wait now: 0")
                await seat.sees("Last 5 minutes: ")
                await expect(seat.page.get_by_text("from 50 labels")).to_have_count(2, timeout=PATIENCE_MS)
                await seat.page.locator("[aria-label^='Accuracy of the audit: 90.0 %']").wait_for()
                await expect(seat.page.get_by_role("cell", name=VERDICT)).to_have_count(10, timeout=PATIENCE_MS)
                verdicts = [await seat.page.get_by_role("cell", name=name).count() for name in ("✓ right", "✗ wrong")]
                assert sum(verdicts) == 10
                assert verdicts[1] <= 5
                await seat.page.get_by_text("5 minutes", exact=True).click()
                await seat.sees("78.6 to 95.7 %, from 50 labels")
    assert "page.failed" not in page.log.read_text()


async def test_without_a_listener(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """What comes from Kafka alone is there, and what is missing is told."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with served(stream, tmp_path, "--listeners", "http://127.0.0.1:1") as page:
        async with working(stream), seated(browser, page.url) as seat:
            await scored_and_labelled(stream, 3, 0)
            await seat.open("watch")
            await seat.sees("No accuracy: http://127.0.0.1:1: no listener answers")
            await seat.sees("not known now")
            await seat.sees("Texts that wait now: 0")
            await seat.page.get_by_role("cell", name="✓ right").nth(2).wait_for()


async def test_nothing_in_a_text_is_markup(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """Each view shows it as it was written, asks nobody for anything, and runs nothing."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with served(stream, tmp_path, "--listeners", "http://127.0.0.1:1") as page:
        async with working(stream, audit_share=1.0), seated(browser, page.url) as seat:
            await seat.open()
            await seat.send(EVIL)
            await seat.sees("Was this right?")
            await seat.sees("**bold** <script>alert(1)</script> [a](https://example.org) :red[x] $x$")
            await seat.open("label")
            await seat.sees("**bold** <script>alert(1)</script>")
            await press(seat.page, "1")
            await seat.sees("Nothing to label just now")
            await stream.publish([Input(b"a new one", 0)])
            await seat.sees("a new one")
            await seat.open("watch")
            await seat.sees("**bold** <script>alert(1)</script> [a](https://example.org) :red[x] $x$")
            assert await seat.page.locator("a[href*=example]").count() == 0


async def test_it_can_be_read(kafka: Kafka, browser: Browser, tmp_path: Path) -> None:
    """By screen readers and by eyes: axe finds nothing serious, nothing is wider than the window, keys reach it all."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with working(stream, audit_share=0.5):
        await scored_and_labelled(stream, 20, 2)
        await stream.publish([Input(f"still to be labelled {number}".encode(), 0) for number in range(4)])
        with (
            service("-m", "streamgauge", "listen", **environment_of(stream)) as (_process, port, _log),
            served(stream, tmp_path, "--listeners", f"http://127.0.0.1:{port}") as page,
        ):
            for width_px, scheme in itertools.product(WIDTHS_PX, SCHEMES):
                async with seated(browser, page.url, width_px=width_px, scheme=scheme) as seat:
                    await readable(seat, f"{width_px} {scheme}")


async def readable(seat: Seat, where: str) -> None:
    for view in VIEWS:
        await seat.open(view)
        await ready(seat, view)
        assert await seat.page.evaluate(OVERFLOW) <= 0, (where, view)
        found = (await Axe().run(seat.page)).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in {"serious", "critical"}]
        assert serious == [], (where, [(one["id"], one["nodes"][0]["html"]) for one in found])


async def ready(seat: Seat, view: str) -> None:
    """Everything of it is there."""
    match view:
        case "":
            await seat.send("what a lovely film")
            await seat.sees("Was this right?")
        case "label":
            await seat.sees("audited texts left")
        case _:
            await seat.sees("from 22 labels")
            await seat.page.locator("canvas, svg.marks").first.wait_for()
