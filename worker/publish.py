"""Publishes what tenures hand out: one transaction at a time for each partition, as the commit policy says."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import structlog
from aiokafka.errors import KafkaError, ProducerFenced

from streamgauge.errors import StreamgaugeError
from streamgauge.settings import TopicSettings
from worker.brake import Brake
from worker.metrics import Metrics, observe_all
from worker.outcomes import Outcome, Refused, Scored
from worker.output import Origin, best, output_records
from worker.settings import WorkerSettings
from worker.skip import committed_with
from worker.tenure import Tenure
from worker.transaction import Writer

log = structlog.get_logger(__name__)

TRANSACTION_CPU_S = 0.0014
SETTLE_S = 0.005
"""From a commit to the next transaction. The broker turns that away until it has written the markers of the one before,
and aiokafka asks again 20 ms later."""
QUEUEING_FACTOR, MAX_QUEUEING_S = 20, 5.0
"""While texts queue up, it is the queue that they wait for: fewer, larger transactions leave more time to the model."""


def commit_interval_s(settings: WorkerSettings, partitions_owned: int) -> float:
    """Seconds between two transactions of one partition, so that all together take their share of a core at most."""
    return max(settings.commit_interval_s, partitions_owned * TRANSACTION_CPU_S / settings.commit_cpu_share)


class Publisher:
    """What all tenures of a worker share; `moved` is called after each commit."""

    def __init__(
        self,
        settings: WorkerSettings,
        topics: TopicSettings,
        origin: Origin,
        metrics: Metrics,
        moved: Callable[[], None],
    ) -> None:
        self._settings, self._topics, self._origin, self._metrics = settings, topics, origin, metrics
        self._moved = moved
        self._brake = Brake(settings.max_dead_letter_share, settings.brake_records)
        self._open_tenures = 0

    async def publish(self, tenure: Tenure, writer: Writer) -> None:
        """Commit what the tenure hands out until it has drained. Raises KafkaError or TimeoutError: open it anew."""
        loop = asyncio.get_running_loop()
        not_before_s = at_latest_s = loop.time()
        self._open_tenures += 1
        try:
            while outcomes := await tenure.next_outcomes(self._enough_records(), not_before_s, at_latest_s):
                began_s = loop.time()
                interval_s = commit_interval_s(self._settings, self._open_tenures)
                at_latest_s = began_s + min(interval_s * QUEUEING_FACTOR, MAX_QUEUEING_S)
                await self._commit(tenure, writer, outcomes)
                ended_s = loop.time()
                not_before_s = max(began_s + interval_s, ended_s + SETTLE_S)
                self._metrics.publish.observe(ended_s - began_s)
        finally:
            self._open_tenures -= 1

    def _enough_records(self) -> int:
        """All tenures together wait with half of the credit at most, one with an eighth: the model must not starve."""
        share = self._settings.max_records // max(8, 2 * self._open_tenures)
        return max(1, min(self._settings.commit_records, share))

    async def _commit(self, tenure: Tenure, writer: Writer, outcomes: list[Outcome]) -> None:
        began_s = time.monotonic()
        records = output_records(outcomes, self._origin, self._topics, time.time())
        try:
            await writer.commit(records, committed_with(outcomes[-1].record.offset + 1, tenure.skips))
        except (KafkaError, TimeoutError) as error:
            (self._metrics.fenced if isinstance(error, ProducerFenced) else self._metrics.aborted).inc()
            log.warning(
                "transaction.failed", partition=tenure.partition.partition, epoch=tenure.epoch, error=repr(error)
            )
            raise
        tenure.committed(outcomes)
        self._moved()
        self._count(tenure, outcomes, began_s)
        share = self._brake.add(isinstance(outcome, Refused) for outcome in outcomes)
        if share:
            raise StreamgaugeError(
                f"{share:.0%} of the last {self._settings.brake_records} records were dead letters, more than "
                f"STREAMGAUGE_WORKER_MAX_DEAD_LETTER_SHARE={self._settings.max_dead_letter_share:g}: look at them in "
                f"{self._topics.dead_letter}, then start again"
            )

    def _count(self, tenure: Tenure, outcomes: list[Outcome], began_s: float) -> None:
        metrics, now_s = self._metrics, time.time()
        metrics.committed.inc()
        # A producer's clock may be ahead of ours; a sum that falls would look like a restart.
        observe_all(metrics.end_to_end, [max(0.0, now_s - outcome.record.timestamp / 1000) for outcome in outcomes])
        scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
        predicted = [best(outcome, self._origin.labels) for outcome in scored]
        for label, count in Counter(label for label, _score in predicted).items():
            metrics.requests[label].inc(count)
        observe_all(metrics.confidence, [score for _label, score in predicted])
        observe_all(metrics.tokenize, [outcome.text.tokenize_s for outcome in scored])
        observe_all(metrics.queue, [outcome.queue_s for outcome in scored])
        observe_all(metrics.infer, [outcome.batch_s for outcome in scored])
        observe_all(metrics.wait, [began_s - outcome.scored_at_s for outcome in scored])
        observe_all(metrics.latency, [outcome.latency_s for outcome in scored])
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        for outcome in refused:
            metrics.dead_letters[outcome.reason].inc()
        if refused:
            first = refused[0].record.offset, refused[0].reason.value
            log.warning("records.refused", partition=tenure.partition.partition, count=len(refused), first=first)
