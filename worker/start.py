"""Where a partition is read from, once it has been fenced."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.errors import TopicsUnfit
from streamgauge.groups import committed_offset
from worker.metrics import Metrics
from worker.settings import WorkerSettings
from worker.skip import skips_of
from worker.transaction import Writer

log = structlog.get_logger(__name__)

OpenWriter = Callable[[TopicPartition], AbstractAsyncContextManager[Writer]]


@dataclass(frozen=True)
class Cluster:
    """What the partitions are read from and written to; `known_partitions` existed when the worker started."""

    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient
    open_writer: OpenWriter
    client_id: str
    known_partitions: int


async def start_of(
    tp: TopicPartition, writer: Writer, cluster: Cluster, settings: WorkerSettings, metrics: Metrics
) -> tuple[int, frozenset[int]]:
    """The first offset to read, and the offsets not to score. Raises TopicsUnfit when nobody can know."""
    committed = await committed_offset(cluster.admin, settings.group, tp)
    first: int = (await cluster.consumer.beginning_offsets([tp]))[tp]
    end: int = (await cluster.consumer.end_offsets([tp]))[tp]
    if committed is None:
        start = _first_start(tp, first, end, cluster, settings)
        # Committed at once: chosen again after a failure, "latest" would be another offset.
        await writer.commit([], OffsetAndMetadata(start, ""))
        return start, frozenset()
    if committed.offset > end:
        raise TopicsUnfit(
            f"group {settings.group} is at {committed.offset} of {tp.topic}-{tp.partition}, which ends at {end}: made "
            "anew, or records were lost. Delete the group's offsets of it; then"
        )
    lost = first - committed.offset
    if lost > 0:
        metrics.records_lost.labels(tp.partition).inc(lost)
        log.error("records.lost", partition=tp.partition, committed=committed.offset, log_start=first, lost=lost)
    return max(committed.offset, first), skips_of(committed.metadata)


def _first_start(tp: TopicPartition, first: int, end: int, cluster: Cluster, settings: WorkerSettings) -> int:
    """Without a committed offset: as told, or at the beginning of a partition that came while we ran."""
    if settings.start_from == "latest":
        return end
    if settings.start_from == "earliest" or tp.partition >= cluster.known_partitions:
        return first
    raise TopicsUnfit(
        f"group {settings.group} has no committed offset for {tp.topic}-{tp.partition}: starting anywhere might score "
        "texts twice or skip some. Choose STREAMGAUGE_WORKER_START_FROM=earliest or latest; or, for a new group,"
    )
