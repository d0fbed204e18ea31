"""Reading the topics without a group: which partitions, from where, and how far."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from feedback_listener.decoding import ConsumedRecord
from feedback_listener.records import Stream
from feedback_listener.settings import Shard
from feedback_listener.store import StoreUnusable
from feedback_listener.totals import Positions
from streamgauge.aiokafka_private import bound_requests, has_stopped_fetching
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import client_options, close_consumer
from streamgauge.settings import KafkaSettings

log = structlog.get_logger(__name__)

SLICE_RECORDS = 300
"""Records polled at once, before the event loop gets its turn."""
SILENT_S = 30.0
"""Longer than brokers need to hand their partitions over."""
FETCH_TIMEOUT_S = 10.0
"""A connection that has died without a word is given up then. aiokafka takes 40 s, even if the network is back."""
FETCH_BYTES = 10 * 2**20
"""In a broker's answer: what 1 MB/s brings within that time."""
METADATA_MAX_AGE_MS = 30_000
"""How soon partitions that were added are seen."""


class TopicReader:
    """Reads the results partitions of a shard, and all of feedback and audit, of committed records only."""

    def __init__(
        self, kafka: KafkaSettings, streams: Mapping[str, Stream], shard: Shard, monotonic_s: Callable[[], float]
    ) -> None:
        """`streams` by topic."""
        self._monotonic_s = monotonic_s
        self._streams = streams
        self._shard = shard
        # A position that is not in the topic is an error: whatever the store knows is then of another topic.
        self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            fetch_max_bytes=FETCH_BYTES,
            **client_options(kafka),
        )
        bound_requests(self._consumer, FETCH_TIMEOUT_S)
        self._seen: dict[TopicPartition, int] = {}
        """Next offset of each assigned partition that has not been handed out. A scrape goes through these in another
        thread: no partition comes into this dict or the next, they are replaced by larger ones."""
        self._answered: dict[TopicPartition, tuple[int | None, float]] = {}
        """The client's time of the last answer to a fetch, and when on our clock it was first seen."""

    async def start(self) -> None:
        await self._consumer.start()

    async def stop(self) -> None:
        await close_consumer(self._consumer)

    def owned(self, partitions: Mapping[str, int]) -> set[TopicPartition]:
        """The shard's own, of the given numbers of partitions by topic."""
        return {
            TopicPartition(topic, partition)
            for topic, stream in self._streams.items()
            for partition in range(partitions.get(topic, 0))
            if stream is not Stream.RESULTS or self._shard.owns(partition)
        }

    def added(self) -> set[TopicPartition]:
        """The shard's partitions that are not read yet."""
        known = {topic: len(self._consumer.partitions_for_topic(topic) or ()) for topic in self._streams}
        return self.owned(known) - self._seen.keys()

    async def assign(self, new: set[TopicPartition], positions: Positions, since_ms: Mapping[Stream, int]) -> Positions:
        """Read these partitions as well, from their position or, without one, from a time on; returns where they end.

        Raises StoreUnusable when a position is not in its topic.
        """
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(new)
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(new)
        # After the ends: where no record is young enough, what comes later is at the end or beyond.
        times = {tp: since_ms[self._streams[tp.topic]] for tp in new}
        starts = await self._consumer.offsets_for_times(times)
        seen, answered = dict(self._seen), dict(self._answered)
        for tp in new:
            position = positions.get(self.key(tp))
            if position is None:
                position = starts[tp].offset if starts[tp] else ends[tp]
            elif not begins[tp] <= position <= ends[tp]:
                raise StoreUnusable(f"{tp.topic}-{tp.partition} has no offset {position} any more")
            seen[tp] = position
            answered[tp] = None, self._monotonic_s()
        # No await from here on: the new assignment must not be read before it has its positions.
        self._consumer.assign(list(seen))
        self._seen, self._answered = seen, answered
        self._seek()
        return {self.key(tp): end for tp, end in ends.items()}

    async def ends(self) -> Positions:
        """Where the assigned partitions end now."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        return {self.key(tp): end for tp, end in ends.items()}

    async def poll(self, timeout_ms: int) -> list[tuple[Stream, ConsumedRecord]]:
        """The next records, in the order of each partition.

        Raises StoreUnusable when the topic has lost its place, StreamgaugeError when the client has stopped fetching.
        """
        if has_stopped_fetching(self._consumer):
            raise StreamgaugeError("Kafka's client has stopped fetching; only a new process reads on")
        self._note_answers()
        try:
            return self._take(await self._consumer.getmany(timeout_ms=timeout_ms, max_records=SLICE_RECORDS))
        except OffsetOutOfRangeError as error:
            raise StoreUnusable(f"offsets are not in the topics any more: {error}") from error

    def _take(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> list[tuple[Stream, ConsumedRecord]]:
        found: list[tuple[Stream, ConsumedRecord]] = []
        for tp, records in polled.items():
            self._seen[tp] = records[-1].offset + 1
            stream = self._streams[tp.topic]
            found += [(stream, record) for record in records]
        return found

    async def positions(self) -> Positions:
        """Next offsets: all before them has been handed out.

        A transaction's marker is an offset without a record: only the consumer's position passes it.
        """
        for tp in self._seen:
            self._seen[tp] = await self._consumer.position(tp)
        return {self.key(tp): offset for tp, offset in self._seen.items()}

    def lag(self, positions: Positions) -> dict[TopicPartition, int]:
        """Committed records, and markers, between these positions and the ends; not of silent partitions."""
        silent = self.silent()
        ends = {tp: self._consumer.last_stable_offset(tp) for tp in self._seen if tp not in silent}
        return {tp: max(0, end - positions.get(self.key(tp), 0)) for tp, end in ends.items() if end is not None}

    def silent(self) -> dict[TopicPartition, float]:
        """Partitions that no broker has answered a fetch of for SILENT_S, with the seconds since it did.

        A broker answers within half a second whether or not there are records; the client hides one that does not.
        """
        now_s = self._monotonic_s()
        return {tp: now_s - at_s for tp, (_stamp, at_s) in self._answered.items() if now_s - at_s > SILENT_S}

    def _note_answers(self) -> None:
        for tp, (known, _at_s) in self._answered.items():
            stamp = self._consumer.last_poll_timestamp(tp)
            if stamp is not None and stamp != known:
                self._answered[tp] = stamp, self._monotonic_s()

    def key(self, tp: TopicPartition) -> tuple[Stream, int]:
        return self._streams[tp.topic], tp.partition

    def _seek(self) -> None:
        for tp, offset in self._seen.items():
            self._consumer.seek(tp, offset)
