"""Reads what the page must know of Kafka, for as long as it runs: the last results and labels, the flow, the lag."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.commands.page.flow import Flow, bucket_of
from streamgauge.commands.page.history import Samples
from streamgauge.commands.page.recent import MAX_RESULTS, Recent
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client, answered
from streamgauge.lifecycle import clock_ms
from streamgauge.provisioning import check_exist
from streamgauge.rights import check_rights, named_rights, page
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import POLL_MS, Polled, polls_up_to, topic_reader

log = structlog.get_logger(__name__)

ASK_EVERY_S = 2.0
ASK_TIMEOUT_S = 5.0
RETRY_S = 1.0
MAX_TRANSACTIONS = 10_000
"""Of the metrics topic, a partition: those of some minutes, and the last one, however old it is."""


async def topic_partitions(
    kafka: KafkaSettings, topics: TopicSettings, stop: asyncio.Event | None = None
) -> Mapping[str, int]:
    """How many partitions each topic has.

    Raises StreamgaugeError when no broker answers, ConfigurationError when a topic or one of the page's rights is
    missing, Stopped when `stop` is set before.
    """
    needed = page(topics)
    async with admin_client(kafka, stop) as admin, named_rights(admin, needed):
        await check_rights(admin, needed)
        return await check_exist(admin, topics.every, "Read")


class Tail:
    """One consumer of committed records, and what follows from them. On one event loop."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self._kafka, self._topics = kafka, topics
        self.recent, self.flow, self.samples = Recent(), Flow(), Samples()
        self.partitions: Mapping[str, int] = {}
        """How many each topic has; empty before Kafka has told."""
        self.lag: int | None = None
        """Texts without an outcome; None: not known."""
        self.caught_up = asyncio.Event()
        self.moved = asyncio.Condition()
        """Told of after each batch of records."""
        self._answered_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """How long ago a broker answered last."""
        return time.monotonic() - self._answered_s

    async def run(self) -> None:
        """Read until cancelled; where Kafka has said no, or has more partitions now, begin anew."""
        while True:
            try:
                self.partitions = await topic_partitions(self._kafka, self._topics)
                async with topic_reader(self._kafka) as consumer, asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._ask(consumer), name="ask")
                    await self._catch_up(consumer)
                    await self._read(consumer)
            except* (StreamgaugeError, KafkaError) as group:
                log.warning("page.not_reading", problem=repr(group.exceptions[0]))
            await asyncio.sleep(RETRY_S)

    def _of(self, *names: str) -> list[TopicPartition]:
        return [TopicPartition(name, number) for name in names for number in range(self.partitions[name])]

    async def _catch_up(self, consumer: AIOKafkaConsumer) -> None:
        """The last results and transactions; then the labels that came since the first of these results."""
        self.recent, self.flow = Recent(), Flow()
        self.caught_up.clear()
        topics = self._topics
        others, labels = self._of(topics.results, topics.metrics, topics.dead_letter), self._of(topics.feedback)
        consumer.assign([*others, *labels])
        consumer.pause(*labels)
        begins = await answered(self._kafka, consumer.beginning_offsets(others), "first offsets were asked for")
        ends = await answered(self._kafka, consumer.end_offsets([*others, *labels]), "ends were asked for")
        most = {topics.results: MAX_RESULTS // self.partitions[topics.results], topics.metrics: MAX_TRANSACTIONS}
        starts = {tp: max(begins[tp], ends[tp] - most.get(tp.topic, 0)) for tp in others}
        await self._read_up_to(consumer, starts, {tp: ends[tp] for tp in others})
        first = next(iter(self.recent.results.values()), None)
        since_ms = first.at_ms if first else clock_ms()
        asking = consumer.offsets_for_times(dict.fromkeys(labels, since_ms))
        found = await answered(self._kafka, asking, "offsets were asked for")
        consumer.pause(*others)
        consumer.resume(*labels)
        starts = {tp: at.offset if at else ends[tp] for tp, at in found.items()}
        await self._read_up_to(consumer, starts, {tp: ends[tp] for tp in labels})
        consumer.resume(*others)
        self.caught_up.set()

    async def _read_up_to(
        self, consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        for tp, offset in starts.items():
            consumer.seek(tp, offset)
        async for polled in polls_up_to(consumer, ends, self._kafka):
            self._take_all(polled)
        for tp, end in ends.items():
            consumer.seek(tp, end)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while len(consumer.partitions_for_topic(self._topics.results) or ()) <= self.partitions[self._topics.results]:
            self._take_all(await consumer.getmany(timeout_ms=POLL_MS))
            async with self.moved:
                self.moved.notify_all()
        raise StreamgaugeError(f"{self._topics.results} has more partitions now")

    def _take_all(self, polled: Polled) -> None:
        for tp, records in polled.items():
            for record in records:
                self._take(tp.topic, record)

    def _take(self, topic: str, record: Any) -> None:
        if topic == self._topics.results:
            self.recent.add_result(record)
        elif topic == self._topics.feedback:
            self.recent.add_label(record)
        elif topic == self._topics.metrics:
            self.flow.add(record.value, time.time())
        else:
            self.recent.add_dead_letter(record)

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        """What aiokafka hides: whether a broker answers. And how far the workers are behind."""
        own = self._of(self._topics.input)
        while True:
            self.flow.forget(time.time())
            self.samples.forget(time.time())
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    begins, ends = await consumer.beginning_offsets(own), await consumer.end_offsets(own)
            except (KafkaError, TimeoutError):
                self.lag = None
            else:
                self._answered_s = time.monotonic()
                if self.caught_up.is_set():
                    self.lag = self.flow.lag(begins, ends)
                    self.samples.lags[bucket_of(time.time())] = self.lag
            await asyncio.sleep(ASK_EVERY_S)
