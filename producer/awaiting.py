"""`streamgauge produce --wait`: the results of the texts that were just published, read as any user reads them."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import typer
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from producer.command import Tell, Texts, publish_texts
from producer.pacing import Pace
from streamgauge.errors import Stopped, StreamgaugeError
from streamgauge.events import CONNECT_ERRORS, NO_EVENT, decode_prediction, last_header
from streamgauge.kafka import admin_client, answered
from streamgauge.lifecycle import unless_stopped
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import harmless
from streamgauge.topic_reading import POLL_MS, topic_reader

NAMED_IDS = 3
TELL_AFTER_S = 2.0
"""A result that takes longer is waited for in words."""


async def publish_and_wait(
    kafka: KafkaSettings,
    topics: TopicSettings,
    given: Texts,
    pace: Pace,
    tell: Tell,
    timeout_s: float,
    stop: asyncio.Event,
) -> None:
    """Publish texts, tell their ids, then a line for each as it is committed: label, score, id.

    Raises StreamgaugeError when not all have come within `timeout_s` seconds, or one is a dead letter; what else
    `publish_texts` raises. Nothing is published where results cannot be read.
    """
    ids: list[str] = []

    def tell_and_note(message_id: str) -> bool:
        ids.append(message_id)
        return tell(message_id)

    try:
        async with _outcomes_from_now(kafka, topics, stop) as consumer:
            await publish_texts(kafka, topics, given, pace, tell_and_note, stop)
            await unless_stopped(stop, _show(consumer, Awaited(topics, ids), tell, timeout_s))
    except Stopped:
        raise StreamgaugeError(f"stopped; texts that are published, and scored all the same: {len(ids)}") from None


@asynccontextmanager
async def _outcomes_from_now(
    kafka: KafkaSettings, topics: TopicSettings, stop: asyncio.Event
) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of results and dead letters that misses none of a text which is published later."""
    async with admin_client(kafka, stop) as admin:
        counts = await check_exist(admin, [topics.results, topics.dead_letter], "Read")
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    async with topic_reader(kafka) as consumer:
        consumer.assign(partitions)
        ends = await answered(kafka, consumer.end_offsets(partitions), "ends were asked for")
        for tp, end in ends.items():
            consumer.seek(tp, end)
        yield consumer


async def _show(consumer: AIOKafkaConsumer, awaited: "Awaited", tell: Tell, timeout_s: float) -> None:
    began_s, is_told = time.monotonic(), not sys.stderr.isatty()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while awaited.left:
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    for line in filter(None, map(awaited.line, records)):
                        tell(harmless(line))
                if awaited.left and not is_told and time.monotonic() - began_s > TELL_AFTER_S:
                    typer.echo(f"waiting for a worker, {timeout_s:g} s at most; Ctrl-C ends", err=True)
                    is_told = True
    if left := list(awaited.left):
        raise StreamgaugeError(
            f"results that did not come within {timeout_s:g} s: {len(left)} ({', '.join(left[:NAMED_IDS])}); the texts "
            "are published, and are scored as soon as a worker runs: streamgauge worker"
        )
    if awaited.refused:
        raise StreamgaugeError(f"texts that could not be scored: {awaited.refused}; see: streamgauge tail dead-letters")


class Awaited:
    """Some message ids until their outcomes have come. Pure."""

    def __init__(self, topics: TopicSettings, ids: Iterable[str]) -> None:
        self._topics = topics
        self.left = dict.fromkeys(ids)
        """In the order in which they were published."""
        self.refused = 0
        """So many of them are dead letters."""

    def line(self, record: Any) -> str | None:
        """What to say of a record of the results or the dead letters; None: it tells of none of ours that is left."""
        return self._refusal(record) if record.topic == self._topics.dead_letter else self._result(record)

    def _result(self, record: Any) -> str | None:
        if (record.key or b"").decode(errors="replace") not in self.left:  # sooner than to decode everybody's results
            return None
        with suppress(*NO_EVENT):
            event = decode_prediction(record.value or b"")
            if event.id in self.left:
                del self.left[event.id]
                return f"{event.label}  {event.score:.3f}  {event.id}"
        return None

    def _refusal(self, record: Any) -> str | None:
        """A dead letter has the headers of its record, which give it its id."""
        names = "ce_source", "ce_id", f"{CONNECT_ERRORS}exception.class.name"
        source, event_id, reason = (
            (last_header(record.headers, name) or b"?").decode(errors="replace") for name in names
        )
        message_id = f"{source}/{event_id}"
        if message_id not in self.left:
            return None
        del self.left[message_id]
        self.refused += 1
        return f"not scored: {reason}  {message_id}"
