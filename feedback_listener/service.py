"""The listener: reads its topics from where its store stands, applies them, and serves the numbers."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from feedback_listener.catch_up import CatchUp, missing
from feedback_listener.decoding import decode_records
from feedback_listener.join import Horizons
from feedback_listener.metrics import AccuracyCollector
from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import RecordBatch, Stream
from feedback_listener.settings import ListenerSettings
from feedback_listener.store import Store, StoreUnusable, discard, prepare
from feedback_listener.topic_reader import TopicReader
from feedback_listener.totals import Positions, Snapshot, Totals
from streamgauge.access import access
from streamgauge.denials import DENIALS
from streamgauge.errors import StreamgaugeError
from streamgauge.http import serve_http
from streamgauge.kafka import admin_client, persistently
from streamgauge.lifecycle import CLOCK, Clock, Deadline
from streamgauge.provisioning import check_for_listener
from streamgauge.rights import listener as listener_rights
from streamgauge.rights import named_rights
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.telemetry import service_registry
from streamgauge.topic_ids import identify

log = structlog.get_logger(__name__)

IDLE_POLL_MS = 200
BUSY_POLL_MS = 5
"""While a batch is being written."""
MAX_BATCH_RECORDS = 20_000
IDENTITY_CHECK_S = 30.0
IDENTITY_TIMEOUT_S = 2.0
"""Nothing is read meanwhile."""
SWITCH_INTERVAL_S = 0.001
"""How long a thread keeps Python's lock from another. A scrape asks for it a dozen times (once a file of /proc), and
waits so long each time while the store's thread is busy."""

ANOTHER_PORT = (
    "for a second listener give --http-port 0 (or STREAMGAUGE_LISTENER_HTTP_PORT), which takes a free one, "
    "and a --store FILE or --shard of its own"
)

T = TypeVar("T")


class Listener:
    """One listener: a shard of the results partitions, all of the feedback and the audit topic, no consumer group."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        settings: ListenerSettings,
        registry: CollectorRegistry,
        clock: Clock = CLOCK,
    ) -> None:
        self._kafka, self._topics = kafka, topics
        self._streams = {
            topics.results: Stream.RESULTS,
            topics.feedback: Stream.FEEDBACK,
            topics.audit: Stream.AUDIT,
        }
        self.terms = settings.terms(topics.join_window_ms)
        self.shard = settings.shard
        self._path = settings.store_path(topics.prefix)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._clock = clock
        self._catch_up = CatchUp(clock.monotonic_s)
        self._applied = asyncio.Condition()
        self._warnings = MinuteLog(clock.monotonic_s)
        self._store: Store | None = None
        self._reader: TopicReader | None = None
        registry.register(AccuracyCollector(self))

    # What is asked from outside; a scrape asks in another thread, and so takes each attribute once

    @property
    def totals(self) -> Totals:
        """All numbers so far; empty ones before the store is open."""
        store = self._store
        return store.totals if store else Totals()

    @property
    def caught_up(self) -> bool:
        """Whether everything that was in the topics at the start has been applied."""
        return self._catch_up.caught_up

    def topic(self, stream: Stream) -> str:
        return next(topic for topic, its_stream in self._streams.items() if its_stream is stream)

    def store_bytes(self) -> int:
        store = self._store
        return store.size_bytes() if store else 0

    def lag(self) -> dict[tuple[str, int], int]:
        """Records to go, by topic and partition; of one that no broker answers for it is not known."""
        reader = self._reader
        lag = reader.lag(self.totals.positions) if reader else {}
        return {(tp.topic, tp.partition): n for tp, n in lag.items()}

    def live(self) -> str | None:
        """What a new process would mend; None if there is nothing."""
        return self._catch_up.live()

    def ready(self) -> str | None:
        """Why the numbers are not shown; None when they are."""
        reader = self._reader
        silent = reader.silent() if reader else {}
        return self._catch_up.ready({f"{tp.topic}-{tp.partition}": silent_s for tp, silent_s in silent.items()})

    def snapshot(self) -> Snapshot:
        """The whole retention, as of the last batch."""
        return self.totals.snapshot()

    async def applied(self) -> None:
        """Return when everything that is in the topics at this moment has been applied."""
        async with self._applied:
            await self._applied.wait_for(lambda: self.caught_up)
        assert self._reader
        ends = await self._reader.ends()
        async with self._applied:
            await self._applied.wait_for(lambda: not missing(ends, self.totals.positions))

    # The loop

    async def run(self, stop: asyncio.Event) -> None:
        """Read until asked to stop.

        Raises ConfigurationError when the topics are not as they must be or another process has the store open, and
        StreamgaugeError when the store cannot be written or the client has stopped fetching.
        """
        try:
            async with (
                admin_client(self._kafka, stop) as admin,
                named_rights(admin, listener_rights(self._topics)),
                asyncio.TaskGroup() as tasks,
            ):
                reading = tasks.create_task(self._keep_reading(admin), name="read")
                await stop.wait()
                reading.cancel()
        finally:
            await self._in_thread(self._close)
            self._thread.shutdown()

    async def _keep_reading(self, admin: AIOKafkaAdminClient) -> None:
        """A store that turns out to be unusable is thrown away, and all is read again."""
        is_new = False
        while True:
            partitions = await self._partitions(admin)
            try:
                await self._read(admin, partitions)
            except StoreUnusable as reason:
                if is_new and not self.caught_up:
                    raise StreamgaugeError(f"the store is unusable although it is new: {reason}") from reason
                log.warning("store.discarded", path=str(self._path), reason=str(reason))
                is_new = True
                self._catch_up.begin()
                await self._in_thread(self._close)
                await self._in_thread(discard, self._path)

    async def _partitions(self, admin: AIOKafkaAdminClient) -> dict[str, int]:
        """How many the topics have, if they are as they must be."""
        existing = await persistently(lambda: check_for_listener(admin, self._topics), self._kafka.connect_timeout_s)
        return {topic.name: topic.partitions for topic in existing.values()}

    async def _read(self, admin: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> None:
        self._catch_up.begin()
        identity = await persistently(lambda: identify(admin, list(self._streams)), self._kafka.connect_timeout_s)
        self._store = store = await self._in_thread(
            Store,
            self._path,
            f"shard {self.shard} window {self.terms.window_ms} maturity {self.terms.maturity_ms} {identity}",
            self.terms.window_ms,
            self._clock.wall_ms(),
            self._warnings,
            self.terms.maturity_ms,
        )
        self._reader = reader = TopicReader(self._kafka, self._streams, self.shard, self._clock.monotonic_s)
        await reader.start()
        try:
            self._catch_up.aim(await self._assign(reader, store, reader.owned(partitions)))
            await self._follow(reader, store, lambda: self._check_identity(admin, identity))
        finally:
            await reader.stop()

    async def _follow(self, reader: TopicReader, store: Store, check_identity: Callable[[], Awaitable[None]]) -> None:
        """Read on for ever. What is polled while a batch is being written makes the next one."""
        batch, writing, busy = RecordBatch(), self._in_thread(lambda: None), False
        checked = Deadline(IDENTITY_CHECK_S, self._clock.monotonic_s)
        while True:
            await asyncio.sleep(0)  # a poll that finds records lets nobody else run: scrapes would wait for all of them
            polled = await reader.poll(BUSY_POLL_MS if busy else IDLE_POLL_MS)
            decode_records(polled, store.kinds, batch, self._warnings)
            if not writing.done() and len(batch) < MAX_BATCH_RECORDS:
                continue
            await writing
            self._catch_up.turn()
            writing = self._in_thread(store.apply, batch, await reader.positions(), self._clock.wall_ms())
            batch, busy = RecordBatch(), len(batch) > 0
            self._catch_up.come(store.totals.positions, store.totals.snapshot)
            async with self._applied:
                self._applied.notify_all()
            self._warnings.tell()
            if added := reader.added():
                log.info("listener.partitions_added", partitions=sorted(f"{t}-{p}" for t, p in added))
                await self._assign(reader, store, added)
            if not checked.left_s:
                await check_identity()
                checked = Deadline(IDENTITY_CHECK_S, self._clock.monotonic_s)

    async def _assign(self, reader: TopicReader, store: Store, partitions: set[TopicPartition]) -> Positions:
        horizons = Horizons.at(self._clock.wall_ms(), self.terms.window_ms, self.terms.maturity_ms)
        since_ms = dict.fromkeys(Stream, horizons.predictions_ms) | {Stream.FEEDBACK: horizons.labels_ms}
        return await reader.assign(partitions, store.totals.positions, since_ms)

    async def _check_identity(self, admin: AIOKafkaAdminClient, identity: str) -> None:
        """A topic that was deleted and made again has another id under the same name."""
        try:
            async with asyncio.timeout(IDENTITY_TIMEOUT_S):
                now = await identify(admin, list(self._streams))
        except DENIALS:
            raise  # a topic that may not be seen is read no more, which looks like silence
        except (KafkaError, TimeoutError):
            return  # a broker that cannot be asked: another time
        if now != identity:
            raise StoreUnusable(f"the topics are {now} now")

    def _close(self) -> None:
        if self._store:
            self._store.close()
            self._store = None

    def _in_thread(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """In the one thread that uses the store, one call after the other."""
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)


async def serve(kafka: KafkaSettings, topics: TopicSettings, settings: ListenerSettings, stop: asyncio.Event) -> None:
    """Run a listener and its HTTP side until asked to stop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    own = access(kafka)
    registry = service_registry(lambda: own.refusal is not None)
    listener = Listener(kafka, topics, settings, registry)
    address = settings.http_host, settings.http_port
    await asyncio.to_thread(prepare, settings.store_path(topics.prefix))

    def ready() -> str | None:
        # What is connected still may not be for long. The numbers are shown as long as brokers answer.
        return own.refusal or listener.ready()

    async with serve_http(*address, registry, live=listener.live, ready=ready, in_thread=True, otherwise=ANOTHER_PORT):
        await listener.run(stop)
