"""Texts and labels as Kafka records, and the publisher that answers for the delivery of each."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from producer.corpus import MADE_BY, Sample
from producer.pacing import Pace
from producer.read_ahead import ReadAhead
from streamgauge.denials import DENIALS
from streamgauge.errors import MAKE_TOPICS_RIGHT, ConfigurationError, StreamgaugeError
from streamgauge.events import (
    Feedback,
    Header,
    MessageId,
    TextSubmitted,
    cloud_event,
    decode_feedback,
    encode,
    utc_now,
)
from streamgauge.kafka import admin_client, client_options, close_producer, sleep_or_stop
from streamgauge.rights import allows, check_allowed, denied
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_ids import allowed_operations

T = TypeVar("T")
R = TypeVar("R")

MAX_UNACKNOWLEDGED = 1000
LINGER_MS = 5
MAX_BATCH_BYTES = 65_536


def text_record(sample: Sample, *, source: str, ce_id: str, now: str) -> tuple[bytes, list[Header]]:
    """Value and headers of an input record; `now` as RFC 3339 has it.

    A text that has an id of its own is sent as JSON, with that id; any other is known by its headers, `source/ce_id`.
    """
    kind = {"id": ce_id, "type": "streamgauge.text.v1", "source": source, "time": now}
    # Bare, these would be taken for JSON and a schema registry's framing; in JSON they arrive as they are.
    if sample.id or sample.text.lstrip().startswith("{") or sample.text.startswith("\0"):
        return encode(TextSubmitted(text=sample.text, id=sample.id)), cloud_event(**kind)
    return sample.text.encode(), cloud_event(**kind, content_type="text/plain; charset=utf-8")


def feedback_record(feedback: Feedback, *, now: str) -> tuple[bytes, bytes, list[Header]]:
    """Key, value and headers of a label: all labels for one id are in one partition, in the order they came.

    Raises ConfigurationError for an id, label or source that is empty or too long.
    """
    value = encode(feedback)
    try:
        decode_feedback(value)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"not a label that can be published: {error}") from None
    headers = cloud_event(id=uuid.uuid4().hex, type="streamgauge.feedback.v1", source=MADE_BY, time=now)
    return feedback.id.encode(), value, headers


class Publisher:
    """Publishes to the input and the feedback topic; an async context manager that flushes before it closes.

    At most MAX_UNACKNOWLEDGED records wait for Kafka at once. After a record has failed nothing more is sent:
    the sequence of an idempotent producer has a gap then, and what came after it would fail too.

    Entering raises StreamgaugeError when no broker answers, Stopped when `stop` is set before; the topics are looked up
    then, once.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        *,
        source: str = MADE_BY,
        stop: asyncio.Event | None = None,
    ) -> None:
        self.delivered = 0
        self.failed = 0
        self._taken = 0
        self._first_lost: int | None = None
        self._kafka = kafka
        self._topics = topics
        self._source = source
        self._stop = stop
        self._allowed: dict[str, set[int] | None] = {}
        self._room = asyncio.Semaphore(MAX_UNACKNOWLEDGED)
        self._pending: dict[asyncio.Future[Any], int] = {}
        """In the order in which they were handed over, and their numbers in it."""
        self._first_error: BaseException | None = None

    async def __aenter__(self) -> Self:
        async with admin_client(self._kafka, self._stop) as admin:
            self._allowed = await allowed_operations(admin, [self._topics.input, self._topics.feedback])
        limit_bytes = self._topics.max_message_bytes
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=min(MAX_BATCH_BYTES, limit_bytes),
            max_request_size=limit_bytes,
            **client_options(self._kafka),
        )
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(close_producer, self._producer)
            if any(allows(operations, "Write") for operations in self._allowed.values()):
                await self._producer.start()  # else the broker refuses it, without saying for which topic
            on_failure.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            await close_producer(self._producer)

    async def text(self, sample: Sample) -> MessageId:
        """Hand one text over, waiting for room; returns the id under which its result will appear.

        Raises TopicsUnfit when the topic does not exist, StreamgaugeError when the text is larger than
        the topic takes, when any record has failed so far, and when Kafka is silent for `connect_timeout_s`.
        """
        ce_id = sample.id or uuid.uuid4().hex
        value, headers = text_record(sample, source=self._source, ce_id=ce_id, now=utc_now())
        await self._send(self._topics.input, None, value, headers)
        return sample.id or f"{self._source}/{ce_id}"

    @property
    def delivered_from_start(self) -> int:
        """How many records are delivered without a gap, from the first on."""
        waiting = next(iter(self._pending.values()), self._taken)
        return waiting if self._first_lost is None else min(waiting, self._first_lost)

    async def feedback(self, feedback: Feedback) -> None:
        """Hand one label over, waiting for room. Raises as `text` does, and for fields that are too long."""
        await self._send(self._topics.feedback, *feedback_record(feedback, now=utc_now()))

    async def flush(self) -> None:
        """Wait until Kafka has acknowledged every record.

        Raises StreamgaugeError when one failed, or when Kafka acknowledged none for `connect_timeout_s`.
        """
        pending = set(self._pending)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=self._kafka.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise self._silence()
        await asyncio.sleep(0)  # a record that was acknowledged this very turn is counted in the next
        self._raise_if_failed()

    async def _send(self, topic: str, key: bytes | None, value: bytes, headers: list[Header]) -> None:
        check_allowed(self._allowed, topic, "Write")
        # An idempotent producer tries again for ever: a lost broker shows only as room that never comes.
        try:
            async with asyncio.timeout(self._kafka.connect_timeout_s):
                await self._room.acquire()
        except TimeoutError:
            raise self._silence() from None
        sending = None
        try:
            self._raise_if_failed()
            sending = await self._producer.send(topic, value, key=key, headers=headers)
        except MessageSizeTooLargeError:
            raise StreamgaugeError(
                f"a record of {len(value)} bytes is too large for {topic}: the limit is "
                f"{self._topics.max_message_bytes} bytes with headers (STREAMGAUGE_TOPIC_MAX_MESSAGE_BYTES)"
            ) from None
        except KafkaError as error:
            raise StreamgaugeError(f"cannot publish to {topic}: {error}") from error
        finally:
            if sending is None:
                self._room.release()
        self._pending[sending] = self._taken
        self._taken += 1
        sending.add_done_callback(partial(self._settle, topic))

    def _settle(self, topic: str, sending: asyncio.Future[Any]) -> None:
        number = self._pending.pop(sending)
        self._room.release()
        error = asyncio.CancelledError() if sending.cancelled() else sending.exception()
        if isinstance(error, DENIALS):
            error = denied([f"Write on topic {topic}"])
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            self._first_error = self._first_error or error
            self._first_lost = number if self._first_lost is None else min(number, self._first_lost)

    def _raise_if_failed(self) -> None:
        error = self._first_error
        if error is None:
            return
        why = (
            f"larger than the topic's max.message.bytes, within STREAMGAUGE_TOPIC_MAX_MESSAGE_BYTES "
            f"({self._topics.max_message_bytes}); {MAKE_TOPICS_RIGHT}"
            if isinstance(error, MessageSizeTooLargeError)
            else str(error)
            if isinstance(error, StreamgaugeError)
            else repr(error)
        )
        raise StreamgaugeError(f"records failed: {self.failed}, delivered: {self.delivered}; {why}") from error

    def _silence(self) -> StreamgaugeError:
        return StreamgaugeError(
            f"Kafka acknowledged nothing for {self._kafka.connect_timeout_s:g} s; "
            f"{self.delivered} records are delivered, of {len(self._pending)} it is not known"
        )


async def publish(
    send: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    pace: Pace,
    stop: asyncio.Event,
    on_sent: Callable[[T, R], None],
) -> int:
    """Send `items` until they end or `stop` is set; returns how many were handed over.

    `items` is read in a thread, so it may be slow, or never end. Raises what it raises, after handing over the items
    before, and what `send` raises.
    """
    sent = 0
    start_s = time.monotonic()
    async with ReadAhead(items, stop) as ahead:
        while chunk := await ahead.take():
            for item in chunk:
                elapsed_s = time.monotonic() - start_s
                start_s += pace.forgiven_s(sent, elapsed_s)
                if due_in_s := pace.due_in_s(sent, elapsed_s):
                    await sleep_or_stop(stop, due_in_s)
                if stop.is_set():
                    break
                on_sent(item, await send(item))
                sent += 1
    return sent
