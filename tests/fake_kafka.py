"""A Kafka for the producer's tests: a test decides what becomes of each record."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from producer import publish
from streamgauge.events import Header
from streamgauge.rights import CODES
from streamgauge.settings import KafkaSettings, TopicSettings, load

TOPICS = load(TopicSettings)

Outcome = Callable[[asyncio.Future[None]], None]


def acknowledge(sending: asyncio.Future[None]) -> None:
    """Kafka has it, a moment later."""
    asyncio.get_running_loop().call_soon(sending.set_result, None)


def acknowledge_late(sending: asyncio.Future[None]) -> None:
    """Kafka has it, but takes its time."""
    asyncio.get_running_loop().call_later(0.1, sending.set_result, None)


def refuse(sending: asyncio.Future[None]) -> None:
    """Kafka says no, a moment later."""
    asyncio.get_running_loop().call_soon(sending.set_exception, RecordListTooLargeError())


def refuse_as_too_large(sending: asyncio.Future[None]) -> None:
    """Kafka holds the record to the topic's limit."""
    asyncio.get_running_loop().call_soon(sending.set_exception, MessageSizeTooLargeError())


def stay_silent(_sending: asyncio.Future[None]) -> None:
    """Kafka never answers."""


class FakeKafka:
    """A producer of which a test decides what becomes of each record."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.topics = [TOPICS.input, TOPICS.feedback]
        self.operations: set[int] | None = {CODES["Write"]}
        """What it lets the user do with each topic."""
        self.outcome: Outcome = acknowledge
        self.refuse_to_send: KafkaError | None = None
        self.sent: list[tuple[str, bytes, bytes | None, list[Header]]] = []
        self.most_pending = 0
        self.closed = False
        self._pending = 0

    async def start(self) -> None:
        """Connected."""

    async def send(self, topic: str, value: bytes, *, key: bytes | None, headers: list[Header]) -> asyncio.Future[None]:
        if self.refuse_to_send:
            raise self.refuse_to_send
        self.sent.append((topic, value, key, headers))
        sending = asyncio.get_running_loop().create_future()
        self._pending += 1
        self.most_pending = max(self.most_pending, self._pending)
        sending.add_done_callback(self._settled)
        self.outcome(sending)
        return sending

    def _settled(self, _sending: asyncio.Future[None]) -> None:
        self._pending -= 1


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """The Kafka that a Publisher connects to in these tests."""
    fake = FakeKafka()

    def connect(**options: Any) -> FakeKafka:
        fake.options = options
        return fake

    @asynccontextmanager
    async def admin_client(_settings: KafkaSettings, _stop: asyncio.Event | None) -> AsyncIterator[FakeKafka]:
        yield fake

    async def allowed_operations(_admin: FakeKafka, names: Sequence[str]) -> dict[str, set[int] | None]:
        return {name: fake.operations for name in names if name in fake.topics}

    async def close_producer(_producer: FakeKafka) -> None:
        fake.closed = True

    monkeypatch.setattr(publish, "AIOKafkaProducer", connect)
    monkeypatch.setattr(publish, "admin_client", admin_client)
    monkeypatch.setattr(publish, "allowed_operations", allowed_operations)
    monkeypatch.setattr(publish, "close_producer", close_producer)
    return fake
