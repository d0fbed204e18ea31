"""The picture of the page in the README, taken of a running demo: `python -m tests.page.pictures`.

With a folder as its argument, each view in light and dark, narrow and wide, for somebody to look at.
"""

import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.async_api import Browser

from tests.cluster import ROOT
from tests.page.seat import WIDTHS_PX, Scheme, Seat, chromium, seated

TARGET = ROOT / "infra" / "pictures" / "page.png"
MOVES_S = 150
"""So long the charts have moved."""
DEMO = ["demo", "--rate", "15", "--http-port", "0"]
FREE = {"STREAMGAUGE_APP_HTTP_PORT": "0", "STREAMGAUGE_WORKER_AUDIT_SHARE": "0.2"}
TEXT = "The plot is thin, but what a lovely film it is!"
TRY, LABEL, WATCH = (560, 735), (560, 545), (1000, 1280)
"""Of the parts: two above each other, beside the third."""
LINE = "#d0d0d0"
COLOURS = 128
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")


@contextmanager
def demo() -> Iterator[str]:
    """Where its page is."""
    command = [sys.executable, "-m", "streamgauge", *DEMO]
    with subprocess.Popen(command, env=os.environ | FREE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = next(found[1] for line in process.stdout if (found := re.search(r"the web page: (\S+)", line)))
        reading = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        try:
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            reading.wait()


async def show(seat: Seat, view: str) -> None:
    """Everything that a view has."""
    await seat.open(view)
    match view:
        case "":
            await seat.send(TEXT)
            await seat.sees("Was this right?")
        case "label":
            await seat.sees("Labelled now")
        case _:
            await seat.page.locator("canvas, svg.marks").nth(4).wait_for()
            await seat.page.get_by_role("cell").first.wait_for()
    await asyncio.sleep(1)  # what fades in has faded in


async def one_picture(browser: Browser, url: str) -> None:
    parts = []
    for view, (width_px, height_px) in (("", TRY), ("label", LABEL), ("watch", WATCH)):
        part = TARGET.with_name(f"part-{view}.png")
        async with seated(browser, url, width_px=width_px, height_px=height_px) as seat:
            await show(seat, view)
            await seat.page.screenshot(path=part)
        parts.append(Image.open(part).convert("RGB"))
        part.unlink()
    whole = Image.new("RGB", (TRY[0] + WATCH[0], WATCH[1]), "white")
    for part_image, place in zip(parts, ((0, 0), (0, TRY[1]), (TRY[0], 0)), strict=True):
        whole.paste(part_image, place)
    lines = ImageDraw.Draw(whole)
    lines.line([(0, TRY[1]), TRY], LINE)
    lines.line([(TRY[0], 0), (TRY[0], WATCH[1])], LINE)
    whole.quantize(COLOURS).save(TARGET, optimize=True)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size} bytes")


async def every_view(browser: Browser, url: str, folder: Path) -> None:
    for view, scheme, width_px in itertools.product(("", "label", "watch"), SCHEMES, WIDTHS_PX):
        height_px = (1400 if width_px > WIDTHS_PX[0] else 2600) if view == "watch" else 900
        async with seated(browser, url, width_px=width_px, scheme=scheme, height_px=height_px) as seat:
            await show(seat, view)
            await seat.page.screenshot(path=folder / f"{view or 'try'}-{scheme}-{width_px}.png")


async def main(folder: Path | None) -> None:
    with demo() as url:
        await asyncio.sleep(MOVES_S)
        async with chromium() as browser:
            await (every_view(browser, url, folder) if folder else one_picture(browser, url))


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else None
    (folder or TARGET.parent).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(folder))
