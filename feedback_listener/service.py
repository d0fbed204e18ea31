"""The listener: reads both topics from the beginning of the join window, applies them to the join, serves it."""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from feedback_listener.accuracy import AccuracyCollector
from feedback_listener.join import Join, Snapshot, Stream
from feedback_listener.settings import ListenerSettings
from feedback_listener.wire import Refusal, read_feedback, read_result
from streamgauge.errors import ConfigurationError
from streamgauge.kafka import Unreadable, admin_client, client_options, persistently, poll_carefully
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.telemetry import serve_http, service_registry
from streamgauge.topics import DAY_MS, Topic, describe

log = structlog.get_logger(__name__)

SLICE_RECORDS = 500
"""Records applied before the event loop gets its turn: 5 to 10 ms."""
POLL_MS = 200
METADATA_MAX_AGE_MS = 30_000
"""How soon partitions that were added are seen."""
STALLED_S = 60.0


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Listener:
    """One listener: all partitions of the results and of the feedback topic, no consumer group."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, registry: CollectorRegistry) -> None:
        self._kafka = kafka
        self._streams = {topics.results: Stream.RESULTS, topics.feedback: Stream.FEEDBACK}
        self._ends: dict[TopicPartition, int] | None = None
        """Where each partition ended at the start, for those not read so far; None before that is known."""
        self._last_read_s = time.monotonic()
        self._progress = asyncio.Condition()
        self._consumer: AIOKafkaConsumer | None = None
        self.join = Join(round(topics.join_window_days * DAY_MS), clock_ms())
        names = {stream: topic for topic, stream in self._streams.items()}
        registry.register(AccuracyCollector(self.join, names, clock_ms, lambda: self._ends == {}))

    def live(self) -> str | None:
        """None while the read loop turns, with or without a broker."""
        stalled_s = time.monotonic() - self._last_read_s
        return f"nothing read, not even nothing, for {stalled_s:.0f} s" if stalled_s > STALLED_S else None

    def ready(self) -> str | None:
        """None once everything that was in the topics at the start has been applied."""
        if self._ends is None:
            return "starting"
        return f"catching up: {len(self._ends)} partitions to go" if self._ends else None

    def snapshot(self) -> Snapshot:
        """The whole retention, now."""
        self.join.advance(clock_ms())
        return self.join.snapshot()

    async def caught_up(self) -> None:
        """Return when everything that is in the topics at this moment has been applied."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.ready() is None)
        assert self._consumer
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        async with self._progress:
            await self._progress.wait_for(lambda: all(self._position(tp) >= end for tp, end in ends.items()))

    async def run(self, stop: asyncio.Event) -> None:
        """Read until asked to stop. Raises ConfigurationError when the topics are not as they must be."""
        async with admin_client(self._kafka, stop) as admin:
            existing = await persistently(lambda: describe(admin, list(self._streams)), self._kafka.connect_timeout_s)
        check_topics(list(self._streams), existing, self.join.window_ms)
        # A position that has been deleted is older than the window: "earliest" loses nothing.
        consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            **client_options(self._kafka),
        )
        await consumer.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(consumer, existing), name="read")
                await stop.wait()
                reader.cancel()
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, existing: dict[str, Topic]) -> None:
        began_s = time.monotonic()
        self._ends = await self._assign(
            consumer, {TopicPartition(topic.name, p) for topic in existing.values() for p in range(topic.partitions)}
        )
        self._consumer = consumer
        while True:
            self._last_read_s = time.monotonic()
            await self._read_some(consumer)
            if self._ends:
                self._ends = {tp: end for tp, end in self._ends.items() if self._position(tp) < end}
                if not self._ends:
                    # What was read stays for days: no pass of the garbage collector shall block the loop for it.
                    gc.freeze()
                    seconds = round(time.monotonic() - began_s, 3)
                    log.info("listener.caught_up", seconds=seconds, **self.join.snapshot()._asdict())
            async with self._progress:
                self._progress.notify_all()
            added = self._partitions(consumer) - consumer.assignment()
            if added:
                log.info("listener.partitions_added", partitions=sorted(f"{t}-{p}" for t, p in added))
                await self._assign(consumer, added)

    async def _assign(self, consumer: AIOKafkaConsumer, new: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Read these partitions as well, from the beginning of the window; returns where they end now."""
        ends: dict[TopicPartition, int] = await consumer.end_offsets(new)
        # After the ends: where no record is as young as the window, what comes later is at the end or beyond.
        starts = await consumer.offsets_for_times(dict.fromkeys(new, self.join.horizon_ms))
        for tp, start in starts.items():
            self._move(tp, start.offset if start else ends[tp])
        assigned = consumer.assignment() | new
        # No await from here on: the new assignment must not be read before it has its positions.
        consumer.assign(list(assigned))
        for tp in assigned:
            consumer.seek(tp, self._position(tp))
        return ends

    async def _read_some(self, consumer: AIOKafkaConsumer) -> None:
        try:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=SLICE_RECORDS)
        except UnicodeDecodeError:
            async for careful in poll_carefully(
                consumer, lambda: {tp: self._position(tp) for tp in consumer.assignment()}
            ):
                self._take(careful)
        else:
            self._take(batches)
        # A transaction's marker is an offset without a record: only the consumer's position passes it.
        for tp in consumer.assignment():
            self._move(tp, await consumer.position(tp))
        await asyncio.sleep(0)

    def _take(self, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        self.join.advance(clock_ms())
        for tp, records in batches.items():
            self._apply(self._streams[tp.topic], [record for record in records if not isinstance(record, Unreadable)])

    def _apply(self, stream: Stream, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            at = record.partition, record.offset, record.timestamp
            if stream is Stream.RESULTS:
                scored = read_result(record.value)
                if not isinstance(scored, Refusal):
                    self.join.add_prediction(*at, scored)
                    continue
                reason = scored
            else:
                feedback = read_feedback(record.value)
                if not isinstance(feedback, Refusal):
                    self.join.add_label(*at, feedback)
                    continue
                reason = feedback
            if self.join.refuse(stream, *at, reason):
                log.warning("record.refused", stream=stream, partition=at[0], offset=at[1], reason=reason)

    def _position(self, tp: TopicPartition) -> int:
        return self.join.positions[self._streams[tp.topic]].get(tp.partition, 0)

    def _move(self, tp: TopicPartition, position: int) -> None:
        self.join.positions[self._streams[tp.topic]][tp.partition] = position

    def _partitions(self, consumer: AIOKafkaConsumer) -> set[TopicPartition]:
        return {TopicPartition(topic, p) for topic in self._streams for p in consumer.partitions_for_topic(topic) or ()}


def check_topics(names: Sequence[str], existing: dict[str, Topic], window_ms: int) -> None:
    """Refuse topics on which the numbers would not be a function of the retained records."""
    problems = []
    for name in names:
        topic = existing.get(name)
        if topic is None:
            problems.append(f"topic {name} does not exist")
            continue
        if topic.config["message.timestamp.type"] != "LogAppendTime":
            problems.append(f"topic {name}: message.timestamp.type must be LogAppendTime")
        if 0 <= int(topic.config["retention.ms"]) < window_ms + DAY_MS:
            problems.append(
                f"topic {name}: retention.ms must be at least the join window and a day, {window_ms + DAY_MS}"
            )
        if topic.config["retention.bytes"] != "-1" or topic.config["cleanup.policy"] != "delete":
            problems.append(f"topic {name}: retention.bytes must be -1 and cleanup.policy delete")
    if problems:
        raise ConfigurationError("; ".join(problems) + "\nrun: streamgauge topics create")


async def serve(kafka: KafkaSettings, topics: TopicSettings, settings: ListenerSettings, stop: asyncio.Event) -> None:
    """Run a listener and its HTTP side until asked to stop."""
    registry = service_registry()
    listener = Listener(kafka, topics, registry)
    async with serve_http(settings.http_host, settings.http_port, registry, live=listener.live, ready=listener.ready):
        await listener.run(stop)
