"""Where pictures are shown: live on a terminal, as plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from streamgauge.commands.running import line_out
from streamgauge.commands.top.picture import Picture
from streamgauge.commands.top.view import Frame
from streamgauge.commands.top.words import one_line
from streamgauge.terminal import cell

PLAIN_EVERY_S = 2.0
LIVE_EVERY_S = 0.5


class Screen:
    """`is_whole`: it takes the whole terminal, and gives it back as it was; else lines above it stay."""

    def __init__(self, console: Console, title: str, ending: str, *, is_whole: bool) -> None:
        self._console, self._title, self._ending, self._is_whole = console, title, ending, is_whole
        self._live: Live | None = None
        self._next_s = 0.0
        self.is_live = console.is_terminal and not console.is_dumb_terminal
        """A dumb terminal cannot go back to what it has written."""

    def say(self, line: str) -> None:
        """A line of progress."""
        self._console.print(cell(line), soft_wrap=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends, pictures are shown live where that can be done."""
        if not self.is_live:
            yield
            return
        with Live(
            console=self._console,
            auto_refresh=False,
            screen=self._is_whole,
            redirect_stdout=not self._is_whole,
            redirect_stderr=not self._is_whole,
        ) as self._live:
            yield
        self._live = None

    def update(self, picture: Callable[[], Picture]) -> bool:
        """To be called often; shows one now and then. False: nobody reads standard output any more."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return True
        self._next_s = now_s + (LIVE_EVERY_S if self._live else PLAIN_EVERY_S)
        if self._live:
            self._live.update(Frame(picture(), self._title, self._ending), refresh=True)
            return True
        return line_out(one_line(picture(), datetime.now(UTC).strftime("%H:%M:%SZ")))
