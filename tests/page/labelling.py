"""How fast one labels by keyboard, on the page and with `streamgauge audit`: `python -m tests.page.labelling`.

A real broker, worker with the default model, and listener. The labeller answers LOOK_S after a text was shown, so what
is above that is the wait for the next text. Then all labels in the feedback topic are counted.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import TimeoutError

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import decode_feedback
from tests.cluster import Stream
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, environment_of, service
from tests.oracle import Input
from tests.page.seat import Seat, chromium, seated, served
from tests.terminal import at_terminal

LOOK_S = 0.25
TEXTS = 1200
SPAN_S = 60.0
UNHEARD_S = 10.0
"""A key of which nothing came until then is pressed once more, and counted."""
SHOWN = "document.querySelector('p[role=status]')?.innerText"


async def on_the_page(url: str, span_s: float) -> tuple[list[float], int]:
    """Waits for the next text, in seconds each; and how many keys were not heard."""
    waits: list[float] = []
    unheard = 0
    async with chromium() as browser, seated(browser, url) as seat:
        await seat.open("label")
        await seat.page.wait_for_function(SHOWN)
        end_s = time.monotonic() + span_s
        while time.monotonic() < end_s:
            before = await seat.page.evaluate(SHOWN)
            await asyncio.sleep(LOOK_S)
            began_s = time.monotonic()
            while not await _changed(seat, before, "12"[len(waits) % 2]):
                unheard += 1
            waits.append(time.monotonic() - began_s)
    return waits, unheard


async def _changed(seat: Seat, before: str, key: str) -> bool:
    """Whether another text is shown after this key."""
    await seat.page.keyboard.press(key)
    try:
        await seat.page.wait_for_function(f"before => {SHOWN} != before", arg=before, timeout=UNHEARD_S * 1000)
    except TimeoutError:
        return False
    return True


def at_the_terminal(stream: Stream, span_s: float) -> list[float]:
    """Waits for the next text, in seconds each."""
    waits: list[float] = []
    with at_terminal(["audit", "--source", "terminal"], QUIET_ENVIRONMENT | environment_of(stream)) as seat:
        seat.until("> ")
        end_s = time.monotonic() + span_s
        while time.monotonic() < end_s:
            time.sleep(LOOK_S)
            began_s = time.monotonic()
            seat.type("12"[len(waits) % 2])
            seat.until("> ")
            waits.append(time.monotonic() - began_s)
    return waits


async def arrived(stream: Stream, of: str) -> list[str]:
    """Ids of the labels from there."""
    found = [decode_feedback(record.value) for record in await stream.read([stream.topics.feedback])]
    return [one.id for one in found if (one.source or "").startswith(of)]


def report(name: str, waits: Sequence[float], unheard: int, ids: Sequence[str]) -> None:
    """A line."""
    per_minute = 60 * len(waits) / (sum(waits) + LOOK_S * len(waits))
    p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
    print(
        f"{name}: {per_minute:.0f} labels a minute; the next text after {1000 * p50:.0f} ms in the median, p99 "
        f"{1000 * p99:.0f} ms; keys not heard: {unheard}; "
        f"given {len(waits)}, arrived {len(ids)}, of {len(set(ids))} ids"
    )


async def main(span_s: float) -> None:
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        stream = await Stream.create(kafka.bootstrap_servers)
        settings = environment_of(stream)
        with (
            service("-m", "worker", **settings, STREAMGAUGE_WORKER_AUDIT_SHARE="1"),
            service("-m", "streamgauge", "listen", **settings) as (_process, port, _log),
        ):
            await stream.publish([Input(f"what a lovely film, number {number}".encode(), 0) for number in range(TEXTS)])
            await stream.read([stream.topics.audit], at_least=TEXTS)
            with served(stream, Path(folder), "--listeners", f"http://127.0.0.1:{port}") as page:
                waits, unheard = await on_the_page(page.url, span_s)
            report("page", waits, unheard, await arrived(stream, "page-"))
            waits = await asyncio.to_thread(at_the_terminal, stream, span_s)
            report("terminal", waits, 0, await arrived(stream, "terminal"))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if sys.argv[1:] else SPAN_S))
