"""Where a partition is read from, once it has been fenced."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from streamgauge.errors import TopicsUnfit
from streamgauge.kafka import persistently
from streamgauge.settings import TopicSettings
from streamgauge.stable_offset import COORDINATOR_TIMEOUT_S, stable_offset
from streamgauge.topic_ids import topic_ids
from worker.metrics import Metrics
from worker.progress import Progress, Stretch, progress_of, skips_of
from worker.settings import WorkerSettings
from worker.transaction import OPEN_TIMEOUT_S, Writer
from worker.visible import NOTHING, Outputs, Tail

log = structlog.get_logger(__name__)

OpenWriter = Callable[[TopicPartition], AbstractAsyncContextManager[Writer]]


@dataclass(frozen=True)
class Cluster:
    """What the partitions are read from and written to; `known_partitions` existed when the worker started.
    `watermarks` is a consumer without a group that sees what is not committed.
    """

    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient
    open_writer: OpenWriter
    outputs: Outputs
    watermarks: AIOKafkaConsumer
    client_id: str
    known_partitions: int


@dataclass(frozen=True)
class Start:
    """The first offset to read; what is known of the transaction before it, and what the outputs show already."""

    offset: int
    progress: Progress
    tail: Tail = NOTHING


class Opening:
    """Finds where one partition starts. The fence must have come before."""

    def __init__(
        self,
        tp: TopicPartition,
        cluster: Cluster,
        settings: WorkerSettings,
        topics: TopicSettings,
        metrics: Metrics,
    ) -> None:
        self._tp, self._cluster, self._settings, self._topics = tp, cluster, settings, topics
        self._metrics = metrics

    async def start(self, writer: Writer) -> Start:
        """Raises TopicsUnfit when nobody can know, KafkaError or TimeoutError when it is to be tried again."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(OPEN_TIMEOUT_S) as patience:
            return await self._start(writer, lambda: patience.reschedule(loop.time() + OPEN_TIMEOUT_S))

    async def _start(self, writer: Writer, moved: Callable[[], None]) -> Start:
        tp, admin, consumer = self._tp, self._cluster.admin, self._cluster.consumer
        names = [self._topics.input, *self._topics.outputs]
        ids, committed, firsts, ends = await asyncio.gather(
            persistently(lambda: topic_ids(admin, names), COORDINATOR_TIMEOUT_S),
            stable_offset(admin, self._settings.group, tp),
            consumer.beginning_offsets([tp]),
            consumer.end_offsets([tp]),
        )
        first, end = firsts[tp], ends[tp]
        progress = progress_of(committed) if committed else None
        if progress and progress.input_id != ids[tp.topic]:
            # Nothing of the new topic has been scored, whatever the offset of the old one was.
            log.warning("input.made_anew", partition=tp.partition, committed=progress.next, start=first)
            return await self._begin(writer, ids, first)
        if committed is None:
            return await self._begin(writer, ids, self._first_start(first, end))
        if committed.offset > end:
            raise TopicsUnfit(
                f"group {self._settings.group} is at {committed.offset} of {tp.topic}-{tp.partition}, which ends at "
                f"{end}: made anew, or records were lost. Delete the group's offsets of it; then"
            )
        if progress is None:
            # Somebody has set this offset and means it, whatever the outputs show.
            offset = max(committed.offset, first)
            self._count_lost(committed.offset, first, NOTHING)
            return await self._begin(writer, ids, offset, skips_of(committed))
        progress = progress.on({topic: ids[topic] for topic in self._topics.outputs})
        return await self._go_on(writer, progress, await self._cluster.outputs.tail(tp, progress, moved), first)

    async def _go_on(self, writer: Writer, progress: Progress, tail: Tail, first: int) -> Start:
        """After a transaction of ours: what its outputs show is what was done, whatever the offset says."""
        offset = progress.first if tail.missing else progress.next
        ahead = sum(shown >= progress.next for shown in tail.shown)
        if tail.missing or ahead:
            log.warning(
                "outputs.differ",
                partition=self._tp.partition,
                committed=progress.next,
                missing=tail.missing,
                visible_ahead=ahead,
            )
        if first > offset:
            self._count_lost(offset, first, tail)
            if first > progress.next:
                # Committed at once: found again at each start, the same loss would be counted again.
                progress = progress.after(first, first, {})
                await writer.commit([], lambda _sent: progress.committed())
            offset = first
        return Start(offset, progress, tail)

    async def _begin(
        self, writer: Writer, ids: dict[str, str], offset: int, skips: frozenset[int] = frozenset()
    ) -> Start:
        """Commit a start that no transaction of ours came before. At once: chosen again after a failure, "latest" would
        be another offset; and from here on the outputs show what was done.
        """
        ends = await self._cluster.outputs.ends(self._tp.partition)
        outputs = {topic: Stretch(ids[topic], end, 0) for topic, end in ends.items()}
        progress = Progress(
            input_id=ids[self._tp.topic], first=offset, next=offset, outputs=outputs, skips=tuple(sorted(skips))
        )
        await writer.commit([], lambda _sent: progress.committed())
        return Start(offset, progress)

    def _first_start(self, first: int, end: int) -> int:
        """Without a committed offset: as told, or at the beginning of a partition that came while we ran."""
        if self._settings.start_from == "latest":
            return end
        if self._settings.start_from == "earliest" or self._tp.partition >= self._cluster.known_partitions:
            return first
        raise TopicsUnfit(
            f"group {self._settings.group} has no committed offset for {self._tp.topic}-{self._tp.partition}: starting "
            "anywhere might score texts twice or skip some. Choose STREAMGAUGE_WORKER_START_FROM=earliest or latest; "
            "or, for a new group,"
        )

    def _count_lost(self, offset: int, first: int, tail: Tail) -> None:
        """Offsets that were deleted before they were read. One alone is likely to be a transaction's marker, behind
        which nobody commits: it is not counted.
        """
        lost = first - offset - sum(offset <= shown < first for shown in tail.shown)
        if lost > 1:
            self._metrics.records_lost.labels(self._tp.partition).inc(lost)
            log.error("records.lost", partition=self._tp.partition, committed=offset, log_start=first, lost=lost)
