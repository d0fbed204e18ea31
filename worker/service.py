"""The worker as a service: puts the parts together, runs them until asked to stop."""

import asyncio
from contextlib import AbstractAsyncContextManager

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from streamgauge.access import access
from streamgauge.aiokafka_private import bound_requests
from streamgauge.errors import ConfigurationError
from streamgauge.http import serve_http
from streamgauge.kafka import REQUEST_TIMEOUT_S, admin_client, close_consumer, persistently, service_options
from streamgauge.lifecycle import unless_stopped
from streamgauge.provisioning import check_for_worker
from streamgauge.rights import named_rights
from streamgauge.rights import worker as worker_rights
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.telemetry import service_registry
from streamgauge.topics import OUTPUT_MARGIN_BYTES
from worker.metrics import Metrics
from worker.model.scorer import Scorer
from worker.model.session import OnnxModel
from worker.output import Origin
from worker.partitions import Partitions
from worker.pipeline import Pipeline
from worker.publish import Publisher
from worker.settings import WorkerSettings
from worker.start import Cluster, OpenWriter
from worker.transaction import Writer, fenced_writer
from worker.visible import Outputs

log = structlog.get_logger(__name__)

JOIN_MARGIN_S = 2.0
"""From the end of a rebalance, as the broker counts, to its answer."""
REBALANCE_MARGIN_S = 7.0
"""The group waits for us this much longer than the drain budget, for producers to close and the join itself; a member
that is gone without a word can hold up a rebalance for as long."""
HEARTBEAT_MS = 500
"""A replica learns of a rebalance from the answer to a heartbeat; until then nobody reads what another gave up."""
ANOTHER_PORT = "for a second worker give --http-port 0 (or STREAMGAUGE_WORKER_HTTP_PORT), which takes a free one"
NEVER_MS = 2**31 - 1
"""aiokafka leaves the group when nobody polls for so long; our backpressure is not to poll, our watchdog `/livez`."""


class Worker:
    """One replica. The model and the way to open a writer can be given, for tests."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicSettings,
        settings: WorkerSettings,
        registry: CollectorRegistry,
        model: Scorer,
    ) -> None:
        self._kafka, self._topics, self._settings, self._model = kafka, topics, settings, model
        self._metrics = Metrics(registry)
        self._metrics.worker.info({"worker": settings.instance, "group": settings.group, "topic": topics.input})
        self._partitions: Partitions | None = None
        self._metrics.ready.set_function(lambda: self.ready() is None)

    async def run(self, stop: asyncio.Event, open_writer: OpenWriter | None = None) -> None:
        """Work until `stop` is set. Raises StreamgaugeError, perhaps in an exception group."""
        await asyncio.to_thread(self._model.verify)
        rights = worker_rights(self._topics, self._settings.group)
        async with admin_client(self._kafka, stop, REQUEST_TIMEOUT_S) as admin, named_rights(admin, rights):
            checking = persistently(
                lambda: check_for_worker(admin, self._topics, self._settings.group), self._kafka.connect_timeout_s
            )
            topics = await unless_stopped(stop, checking)
            output_bytes = min(int(topics[name].config["max.message.bytes"]) for name in self._topics.outputs)
            consumer = self._consumer()
            watermarks = AIOKafkaConsumer(**service_options(self._kafka))
            bound_requests(watermarks, REQUEST_TIMEOUT_S)
            outputs = Outputs(self._kafka, self._topics, self._settings.group, watermarks)
            cluster = Cluster(
                consumer,
                admin,
                open_writer or (lambda tp: self._fenced_writer(tp, output_bytes)),
                outputs,
                watermarks,
                self._settings.instance,
                topics[self._topics.input].partitions,
            )
            try:
                for one in (watermarks, consumer):
                    await unless_stopped(stop, persistently(one.start, self._kafka.connect_timeout_s))
                await self._work(cluster, output_bytes - OUTPUT_MARGIN_BYTES, stop)
            finally:
                await asyncio.gather(close_consumer(consumer), close_consumer(watermarks), outputs.close())
                log.info("worker.stopped")

    def _fenced_writer(self, tp: TopicPartition, output_bytes: int) -> AbstractAsyncContextManager[Writer]:
        observe_commit_s = self._metrics.commit.observe
        return fenced_writer(self._kafka, self._topics, self._settings, tp, output_bytes, observe_commit_s)

    def _consumer(self) -> AIOKafkaConsumer:
        settings = self._settings
        session_ms = round(settings.session_timeout_s * 1000)
        rebalance_ms = round((settings.drain_budget_s + REBALANCE_MARGIN_S) * 1000)
        consumer = AIOKafkaConsumer(
            group_id=settings.group,
            client_id=settings.instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, session_ms // 3),
            rebalance_timeout_ms=rebalance_ms,
            max_poll_interval_ms=NEVER_MS,
            max_partition_fetch_bytes=262_144,
            metadata_max_age_ms=5_000,  # so that new partitions are soon known
            **service_options(self._kafka),
        )
        bound_requests(consumer, REQUEST_TIMEOUT_S, rebalance_ms / 1000 + JOIN_MARGIN_S)
        return consumer

    async def _work(self, cluster: Cluster, max_letter_bytes: int, stop: asyncio.Event) -> None:
        origin = Origin(self._settings.group, self._settings.instance)
        pipeline = Pipeline(self._model, self._settings, self._metrics)
        publisher = Publisher(self._settings, self._topics, origin, self._metrics, pipeline.in_use, max_letter_bytes)
        partitions = Partitions(cluster, self._settings, self._topics, publisher, self._metrics)
        self._partitions = partitions
        try:
            async with asyncio.TaskGroup() as stages:
                partitions.start(stages, pipeline.discard_unwanted)
                slots = range(self._settings.model_slots)
                intake = stages.create_task(pipeline.intake(partitions.polled()), name="intake")
                running = [
                    *(stages.create_task(pipeline.infer(), name=f"infer-{number}") for number in slots),
                    stages.create_task(pipeline.probe_event_loop(), name="probe"),
                    stages.create_task(partitions.watchdog.watch(), name="watchdog"),
                    stages.create_task(partitions.lag.ends.watch(), name="ends"),
                ]
                log.info("worker.started", model=self._model.ref.key, group=self._settings.group)
                await stop.wait()
                intake.cancel()
                await partitions.stop()
                for stage in running:
                    stage.cancel()
        finally:
            pipeline.close()

    def live(self) -> str | None:
        """None, or why this process should be replaced."""
        return self._partitions.watchdog.problem() if self._partitions else None

    def ready(self) -> str | None:
        """None while what comes can be committed: brokers answer, the group has been joined, and each partition of ours
        been opened, and not failed since.
        """
        if refusal := access(self._kafka).refusal:
            return refusal
        if problem := self.live():
            return problem
        if self._partitions and (silence := self._partitions.lag.ends.silence()):
            return silence
        if not self._partitions or not self._partitions.has_joined:
            return "the group has not been joined yet"
        if failing := self._partitions.failing():
            return f"{len(failing)} partitions cannot be committed: {', '.join(sorted(set(failing)))}"
        waiting = self._partitions.not_open()
        return f"{waiting} partitions are assigned, but not opened yet" if waiting else None


def load_model(settings: WorkerSettings) -> OnnxModel:
    """The model that the settings name. Raises ConfigurationError, which names the setting."""
    try:
        return OnnxModel.load(settings.model_dir, settings.max_tokens)
    except ConfigurationError as error:
        raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR: {error}") from error


async def serve(kafka: KafkaSettings, topics: TopicSettings, settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Run one worker with its HTTP side until `stop` is set."""
    own = access(kafka)
    registry = service_registry(lambda: own.refusal is not None)
    model = await asyncio.to_thread(load_model, settings)
    worker = Worker(kafka, topics, settings, registry, model)
    address = settings.http_host, settings.http_port
    async with serve_http(*address, registry, live=worker.live, ready=worker.ready, otherwise=ANOTHER_PORT):
        await worker.run(stop)
