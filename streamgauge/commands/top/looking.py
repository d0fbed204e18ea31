"""Looks at the replicas whose URLs are given: what they serve on `/metrics`, again and again."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import aiohttp

from feedback_listener.reconcile import read_metrics
from streamgauge.commands.top.flow import Flow
from streamgauge.commands.top.picture import Known
from streamgauge.commands.top.scraped import WorkerShown, committed_between, read_worker
from streamgauge.errors import StreamgaugeError

EVERY_S = 1.0
ANSWER_S = 5.0

T = TypeVar("T")


class Looks:
    """At these workers and listeners."""

    def __init__(self, known: Known, workers: Sequence[str], listeners: Sequence[str]) -> None:
        self._known, self._workers, self._listeners = known, workers, listeners

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began_s = time.monotonic()
            await self.look()
            # A page of two megabytes takes a second to parse, in which nothing else is done.
            await asyncio.sleep(max(EVERY_S, 3 * (time.monotonic() - began_s)))

    async def look(self) -> None:
        """Once, at all of them together."""
        known = self._known
        workers = [self._ask(known.workers, "worker", url, read_worker, self._count) for url in self._workers]
        listeners = [self._ask(known.listeners, "listener", url, read_metrics) for url in self._listeners]
        await asyncio.gather(*workers, *listeners)
        if not known.workers:
            known.between_looks = None

    def _count(self, before: WorkerShown | None, shown: WorkerShown) -> None:
        now_s = time.monotonic()
        self._known.between_looks = self._known.between_looks or Flow(now_s)
        if before:
            self._known.between_looks.add(shown.name, now_s, committed_between(before, shown))

    async def _ask(
        self,
        found: dict[str, T],
        what: str,
        url: str,
        read: Callable[[str, str], T],
        on_shown: Callable[[T | None, T], None] = lambda _before, _shown: None,
    ) -> None:
        try:
            shown = _read(url, await _page(what, url), read)
        except StreamgaugeError as error:
            found.pop(url, None)
            self._known.problems[f"{what} {url}"] = str(error).removeprefix(f"{url}: ")
        else:
            on_shown(found.get(url), shown)
            found[url] = shown
            self._known.problems.pop(f"{what} {url}", None)


async def _page(what: str, url: str) -> str:
    address = url if "://" in url else f"http://{url}"
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S), raise_for_status=True)
    try:
        async with http, http.get(f"{address.rstrip('/')}/metrics") as answer:
            return await answer.text()
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: no URL, or no text
        raise StreamgaugeError(f"{url}: no {what} answers: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {ANSWER_S:g} s"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"status {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):  # its own words name the address once more, and our side of TLS
        return os.strerror(error.errno) if error.errno and error.errno > 0 else "it cannot be reached"
    return str(error) or type(error).__name__


def _read(url: str, page: str, read: Callable[[str, str], T]) -> T:
    """Raises StreamgaugeError for whatever is served there that is not what was looked for."""
    try:
        return read(url, page)
    except (ValueError, LookupError, OverflowError) as error:
        raise StreamgaugeError(f"{url}: no metrics: {error!r}") from None
