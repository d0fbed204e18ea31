"""Reading what may be slow, a large file or a terminal, in a thread: the event loop never waits for it."""

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

MAX_AHEAD = 1000


class ReadAhead(Generic[T]):
    """Up to MAX_AHEAD items of `source`, read before they are wanted; setting `stop` ends it early.

    An async context manager. Its thread is a daemon: nothing can wake it from reading a terminal, and it must
    not hold up the process's end.
    """

    def __init__(self, source: Iterable[T], stop: asyncio.Event) -> None:
        self._source = source
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._room = threading.Condition()
        self._ready = asyncio.Event()
        self._items: list[T] = []
        self._ended = False
        self._error: Exception | None = None

    async def __aenter__(self) -> Self:
        threading.Thread(target=self._read, name="read-ahead", daemon=True).start()
        self._stopper = asyncio.create_task(self._end_on_stop(), name="read-ahead-stop")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopper.cancel()
        await asyncio.wait([self._stopper])
        self._end()

    async def take(self) -> list[T]:
        """All that is ready, as soon as anything is; empty at the end. Raises what the source raised."""
        while True:
            await self._ready.wait()
            with self._room:
                items, self._items = self._items, []
                if not self._ended:
                    self._ready.clear()
                elif not items and self._error:
                    raise self._error
                self._room.notify()
                if items or self._ended:
                    return items

    def _read(self) -> None:
        error = None
        try:
            for item in self._source:
                if not self._put(item):
                    return
        except Exception as raised:  # noqa: BLE001 - raised again where the items are taken
            error = raised
        with self._room:
            if not self._ended:
                self._ended, self._error = True, error
                self._loop.call_soon_threadsafe(self._ready.set)

    def _put(self, item: T) -> bool:
        """Add an item when there is room; False when nobody takes any more."""
        with self._room:
            self._room.wait_for(lambda: self._ended or len(self._items) < MAX_AHEAD)
            if self._ended:
                return False
            self._items.append(item)
            if len(self._items) == 1:
                self._loop.call_soon_threadsafe(self._ready.set)
            return True

    async def _end_on_stop(self) -> None:
        await self._stop.wait()
        self._end()

    def _end(self) -> None:
        with self._room:
            self._items, self._ended, self._error = [], True, None
            self._room.notify()
        self._ready.set()
