"""A TCP proxy between one worker and its broker, whose network can be made to fail and to heal."""

import asyncio
import random
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
LATENCY_S = (0.05, 0.25)


class Mode(Enum):
    """What the network does."""

    PASS = auto()
    STALL = auto()
    """Bytes are held in both directions, those of connections that end meanwhile too; connections stay."""
    DROP = auto()
    """Connections are closed, new ones refused; what was on its way is gone."""
    RESET = auto()
    """As `DROP`, but connections end by RST."""
    SWALLOW = auto()
    """Connections stay, of those to come too, and all bytes are lost: for good, on connections that lost some."""
    SLOW = auto()
    """Bytes take 300 ms there and back, with jitter."""


class Proxy:
    """Listens on `port` inside its block and passes everything to `target_port` and back."""

    def __init__(self, port: int, target_port: int) -> None:
        self._port, self._target_port = port, target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._mode = Mode.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.switch(Mode.DROP)
        self._flowing.set()
        await asyncio.gather(*self._serving)

    async def switch(self, mode: Mode) -> None:
        """Change the network at once, for connections that exist and for those to come."""
        self._mode = mode
        if mode is Mode.STALL:
            self._flowing.clear()
        elif mode in (Mode.PASS, Mode.SWALLOW, Mode.SLOW):
            await self._listen()
            self._flowing.set()
        else:
            self._refuse()
            for writer in self._writers:
                _end(writer, with_reset=mode is Mode.RESET)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self._port, reuse_address=True)

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            with suppress(OSError):
                await self._connect(reader, writer)
        finally:
            self._writers.discard(writer)
            await _closed(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(HOST, self._target_port)
        self._writers.add(broker_writer)
        try:
            await asyncio.gather(self._requests(reader, broker_writer), self._pump(broker_reader, writer))
        finally:
            self._writers.discard(broker_writer)
            await _closed(broker_writer)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._pump(reader, writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_dead = False
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                is_dead = is_dead or self._mode is Mode.SWALLOW
                if is_dead:
                    continue
                if self._mode is Mode.SLOW:
                    await asyncio.sleep(random.uniform(*LATENCY_S))
                writer.write(data)
                await writer.drain()
        await self._flowing.wait()
        writer.close()


class HangingProxy(Proxy):
    """Lets all requests through but some: a connection that carries one is held, as by a thread of the broker that
    hangs, until none is held any more. It reads Kafka's frames: no TLS.
    """

    def __init__(self, port: int, target_port: int) -> None:
        super().__init__(port, target_port)
        self._held: Collection[int] = ()
        self._released = asyncio.Event()
        self._released.set()

    def hold(self, *api_keys: int) -> None:
        """From now on these requests are held; none: what is held goes on."""
        self._held = api_keys
        if api_keys:
            self._released.clear()
        else:
            self._released.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.hold()
        await super().__aexit__(kind, error, traceback)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = await reader.readexactly(4)
                request = await reader.readexactly(int.from_bytes(size))
                if int.from_bytes(request[:2]) in self._held:
                    await self._released.wait()
                writer.write(size + request)
                await writer.drain()
        writer.close()


def _end(writer: asyncio.StreamWriter, *, with_reset: bool) -> None:
    if with_reset and not writer.is_closing():
        lingering = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        writer.transport.abort()
    else:
        writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
