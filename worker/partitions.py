"""The partitions that the group gives this worker: fence, read, publish, hand back.

Start of a partition, in this order and no other: fence (the writer), *then* read the committed offset, *then* seek.
The group gives liveness, never correctness: whoever fenced last is the only one whose output can become visible.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import CorruptRecordException, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamgauge.groups import owned_partitions
from streamgauge.kafka import jittered
from streamgauge.settings import TopicSettings
from worker.credit import Credit, largest_share
from worker.hopeless import passes, unless_hopeless
from worker.lag import InputLag
from worker.load import ModelLoad
from worker.metrics import Metrics
from worker.outcomes import InputRecord
from worker.publish import Publisher
from worker.settings import WorkerSettings
from worker.start import Cluster, Opening, Start
from worker.tenure import Tenure
from worker.transaction import Writer
from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)

POLL_TIMEOUT_MS = 1000
MAX_POLL_RECORDS = 256
"""A poll's records are decoded in one go: so many keep the event loop free of long steps."""
OPENINGS_AT_ONCE = 16
"""Each has a time limit, and all share the brokers: of hundreds begun at once none would end in time."""
REOPEN_BACKOFF_S = 0.5

IDLE_S = 10.0
EXCUSED_S = 60.0
"""Longer than an attempt takes: each one that fails because of Kafka excuses its partition anew."""


class Failure(NamedTuple):
    """An attempt that has failed, at a time of the monotonic clock; `passes`: Kafka was not able to."""

    name: str
    passes: bool
    at_s: float


Polled = list[tuple[Tenure, list[InputRecord]]]


class Partitions(ConsumerRebalanceListener):  # type: ignore[misc]
    """One task per assigned partition, from the assignment to the revocation, in the pipeline's task group."""

    def __init__(
        self,
        cluster: Cluster,
        settings: WorkerSettings,
        topics: TopicSettings,
        publisher: Publisher,
        metrics: Metrics,
    ) -> None:
        self._cluster, self._settings, self._topics = cluster, settings, topics
        self._publisher, self._metrics = publisher, metrics
        self._credit = credit = Credit(settings.max_records, settings.max_bytes)
        self._load = ModelLoad(settings.model_slots, self._wake_all)
        self._tenures: dict[TopicPartition, Tenure] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._opening = asyncio.Semaphore(OPENINGS_AT_ONCE)
        self._owner: asyncio.TaskGroup | None = None
        self._on_retire: Callable[[], None] = lambda: None
        self._failed: dict[TopicPartition, Failure] = {}
        """The last attempt to commit, where none has gone well since."""
        self.lag = InputLag(cluster, topics, settings.group, self._tasks.keys(), self._is_excused, self._tenures)
        self.watchdog = Watchdog(settings.stall_timeout_s, self.lag.exists)
        self._is_handing_back = False
        self.has_joined = False
        metrics.credit_records.set_function(lambda: credit.records)
        metrics.credit_bytes.set_function(lambda: credit.bytes)
        metrics.credit_records_limit.set(credit.max_records)
        metrics.credit_bytes_limit.set(credit.max_bytes)
        metrics.lag.read = self.lag.known
        metrics.partitions.read = self._known

    def _known(self) -> tuple[int, int] | None:
        """How many partitions there are, and how many are ours: one that no broker answers may have lost them."""
        exist = len(self._cluster.consumer.partitions_for_topic(self._topics.input) or ())
        return (exist, len(self._tenures)) if exist and not self.lag.ends.silence() else None

    def not_open(self) -> int:
        """How many of the partitions that are ours have not been opened: nothing of them can be committed yet."""
        return len(self._tasks.keys() - self._tenures.keys())

    def failing(self) -> list[str]:
        """Of the partitions that could not commit when they last tried: the errors' names. One that has been open for a
        while, and found nothing to commit, is well.
        """
        now_s = time.monotonic()
        for tp, tenure in self._tenures.items():
            if not tenure.held_records and now_s - tenure.opened_s > IDLE_S:
                self._failed.pop(tp, None)
        return [failure.name for failure in self._failed.values()]

    def _is_excused(self, tp: TopicPartition) -> bool:
        """Only a commit is progress. But what Kafka cannot do just now, a new process could not do either."""
        failure = self._failed.get(tp)
        return failure is not None and failure.passes and time.monotonic() - failure.at_s < EXCUSED_S

    def start(self, owner: asyncio.TaskGroup, on_retire: Callable[[], None]) -> None:
        """Join the group. `on_retire` is called when tenures have stopped accepting texts."""
        self._owner, self._on_retire = owner, on_retire
        self._cluster.consumer.subscribe([self._topics.input], listener=self)

    async def stop(self) -> None:
        """Finish what is in the model, commit it, and take no more partitions."""
        self._owner = None
        await self._hand_back()

    async def polled(self) -> AsyncIterator[Polled]:
        """Records of open tenures, as long as there is credit for them; without credit nothing is fetched."""
        consumer = self._cluster.consumer
        while True:
            await self._credit.available()
            self._hold_back()
            most = min(self._credit.records_left, MAX_POLL_RECORDS)
            try:
                yield self._by_tenure(await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=most))
            except (OffsetOutOfRangeError, CorruptRecordException) as error:
                self._reopen(error)
            except NoOffsetForPartitionError:
                pass  # the partition's own task reads its offset, and refuses by name if there is none

    def _by_tenure(self, fetched: Mapping[TopicPartition, list[InputRecord]]) -> Polled:
        return [(self._tenures[tp], records) for tp, records in fetched.items() if tp in self._tenures]

    def _hold_back(self) -> None:
        """Pause partitions that hold too much of the credit: one that is stuck must not starve the others."""
        share = largest_share(len(self._tenures))
        for tp, tenure in self._tenures.items():
            if tenure.holds(share):
                self._cluster.consumer.pause(tp)
            elif not tenure.holds(share * 3 / 4):
                self._cluster.consumer.resume(tp)

    def _reopen(self, error: OffsetOutOfRangeError | CorruptRecordException) -> None:
        [positions] = error.args
        for tp in positions:
            if tp in self._tenures:
                self._tenures[tp].fail(error)

    # The two calls of the group. No heartbeat is sent while on_partitions_assigned runs, so it only starts tasks.

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = sorted(assigned)
        self.has_joined = True
        self._metrics.rebalances.inc()
        log.info("group.assigned", partitions=[tp.partition for tp in partitions])
        self._cluster.consumer.pause(*partitions)
        for tp in partitions:
            # A position of any kind keeps aiokafka from reading the committed offset itself, before the fence.
            self._cluster.consumer.seek(tp, 0)
            self._metrics.records_lost.labels(tp.partition)  # at 0, so that its first increase is one
            if self._owner:
                self._tasks[tp] = self._owner.create_task(self._serve(tp), name=f"partition-{tp.partition}")

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if self._tasks:
            log.info("group.revoking", partitions=sorted(tp.partition for tp in revoked))
        self.has_joined = False
        await self._hand_back()

    async def _hand_back(self) -> None:
        """Drain within the budget, then cut off: what is not committed is left to the next owner."""
        self._is_handing_back = True
        tasks = dict(self._tasks)
        for tp, task in tasks.items():
            if tp in self._tenures:
                self._tenures[tp].retire()
            else:
                task.cancel()
        self._on_retire()
        if tasks:
            _done, late = await asyncio.wait(tasks.values(), timeout=self._settings.drain_budget_s)
            for task in late:
                task.cancel()
            if late:
                log.warning("group.drain_cut_off", partitions=len(late), budget_s=self._settings.drain_budget_s)
                await asyncio.wait(late)
        self._tasks.clear()
        self._failed.clear()
        self._is_handing_back = False

    async def _serve(self, tp: TopicPartition) -> None:
        """Own a partition until it is taken away; whatever goes wrong with it, begin again with a fence."""
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with self._opening:
                        writer = await stack.enter_async_context(self._cluster.open_writer(tp))
                        opening = Opening(tp, self._cluster, self._settings, self._topics, self._metrics)
                        start = await opening.start(writer)
                    await self._serve_epoch(tp, writer, start)
                    return
            except (KafkaError, TimeoutError) as error:
                told = unless_hopeless(error, topic=tp.topic, group=self._settings.group)
                if self._is_handing_back:
                    return
                self._metrics.reopens.inc()
                log.warning("partition.reopening", partition=tp.partition, error=type(told).__name__)
                self._failed[tp] = Failure(type(told).__name__, passes(told), time.monotonic())
            # The failure's traceback holds all that the tenure held, in cycles that might live for minutes.
            gc.collect()
            await self._until_ours(tp)

    async def _serve_epoch(self, tp: TopicPartition, writer: Writer, start: Start) -> None:
        tenure = Tenure(tp, self._credit, self._load, start.offset, start.progress, start.tail)
        self._tenures[tp] = tenure
        log.info("partition.opened", partition=tp.partition, epoch=tenure.epoch, offset=start.offset)
        try:
            self._cluster.consumer.seek(tp, start.offset)
            self._cluster.consumer.resume(tp)
            await self._publisher.publish(tenure, writer, lambda: self._committed(tp))
        finally:
            del self._tenures[tp]
            tenure.close()
            if tp in self._cluster.consumer.assignment():
                self._cluster.consumer.pause(tp)
            log.debug("partition.closed", partition=tp.partition, epoch=tenure.epoch, offset=tenure.position)

    async def _until_ours(self, tp: TopicPartition) -> None:
        """Fence again only while the coordinator says that the partition is still ours: else two owners would duel."""
        while True:
            await asyncio.sleep(jittered(REOPEN_BACKOFF_S))
            try:
                if tp in await owned_partitions(self._cluster.admin, self._settings.group, self._cluster.client_id):
                    return
            except KafkaError as error:
                unless_hopeless(error, topic=tp.topic, group=self._settings.group)
                next_step = "asked again until the coordinator answers, then opened"
                log.warning("group.unknown", partition=tp.partition, error=repr(error), next=next_step)

    def _wake_all(self) -> None:
        """Texts no longer queue up: what waited for more can be committed."""
        for tenure in self._tenures.values():
            tenure.wake()

    def _committed(self, tp: TopicPartition) -> None:
        self._failed.pop(tp, None)
        self.watchdog.begin_anew()
        self._hold_back()
