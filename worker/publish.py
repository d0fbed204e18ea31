"""Publishes what tenures hand out: one transaction at a time for each partition, as the commit policy says."""

import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from streamgauge.errors import StreamgaugeError
from streamgauge.settings import TopicSettings
from worker.audit import Audit
from worker.brake import Brake
from worker.commit_policy import CommitPolicy
from worker.metrics import Metrics, observe_all
from worker.outcomes import ModelIdentity, Outcome, Refused, Scored, by_model, was_given_to_the_model
from worker.output import Origin, fitting, output_records
from worker.settings import WorkerSettings
from worker.tenure import Tenure
from worker.transaction import Writer

log = structlog.get_logger(__name__)


class Publisher:
    """What all tenures of a worker share. `in_use`: the model that a transaction names if nothing in it was scored.
    `max_letter_bytes`: how large a record may be for a dead letter of it.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        topics: TopicSettings,
        origin: Origin,
        metrics: Metrics,
        in_use: Callable[[], ModelIdentity],
        max_letter_bytes: int,
    ) -> None:
        self._settings, self._topics, self._origin, self._metrics = settings, topics, origin, metrics
        self._in_use, self._max_letter_bytes = in_use, max_letter_bytes
        self._audit = Audit(settings.audit_share, settings.audit_salt)
        self._policy = CommitPolicy(settings)
        self._brake = Brake(settings.max_failed_share, settings.brake_records)
        self._open_tenures = 0

    async def publish(self, tenure: Tenure, writer: Writer, moved: Callable[[], None]) -> None:
        """Commit what the tenure hands out until it has drained; `moved` is called after each commit.

        Raises KafkaError or TimeoutError: open the partition anew.
        """
        self._open_tenures += 1
        terms = self._policy.first(self._open_tenures)
        try:
            while outcomes := await tenure.next_outcomes(terms):
                began_s = time.monotonic()
                await self._commit(tenure, writer, outcomes)
                moved()
                ended_s = time.monotonic()
                terms = self._policy.next(self._open_tenures, began_s, ended_s)
                self._metrics.publish.observe(ended_s - began_s)
        finally:
            self._open_tenures -= 1

    async def _commit(self, tenure: Tenure, writer: Writer, outcomes: list[Outcome]) -> None:
        began_s = time.monotonic()
        first, last = outcomes[0].record.offset, outcomes[-1].record.offset
        is_measured = tenure.tail.is_measured
        written = [fitting(outcome, self._max_letter_bytes) for outcome in outcomes]
        in_use, now_s = self._in_use().ref, time.time()
        records = output_records(written, self._origin, self._audit, in_use, self._topics, now_s, is_measured)

        def offset_after(sent: Mapping[str, tuple[int, int]]) -> OffsetAndMetadata:
            tenure.progress = tenure.progress.after(first, last + 1, sent)
            return tenure.progress.committed()

        try:
            await writer.commit(records, offset_after)
        except (KafkaError, TimeoutError) as error:
            (self._metrics.fenced if isinstance(error, ProducerFenced) else self._metrics.aborted).inc()
            log.warning(
                "transaction.failed", partition=tenure.partition.partition, epoch=tenure.epoch, error=repr(error)
            )
            raise
        tenure.committed(outcomes)
        self._count(tenure, written, began_s)
        self._stop_if_the_model_fails(outcomes)

    def _stop_if_the_model_fails(self, outcomes: list[Outcome]) -> None:
        """Raises StreamgaugeError when it has failed on too many texts."""
        failed = [isinstance(outcome, Refused) for outcome in outcomes if was_given_to_the_model(outcome)]
        share = self._brake.add(failed)
        if share:
            raise StreamgaugeError(
                f"the model failed on {share:.0%} of the last {self._settings.brake_records} texts, more than "
                f"STREAMGAUGE_WORKER_MAX_FAILED_SHARE={self._settings.max_failed_share:g}: look at them in "
                f"{self._topics.dead_letter}, then start again"
            )

    def _count(self, tenure: Tenure, outcomes: list[Outcome], began_s: float) -> None:
        metrics, now_s = self._metrics, time.time()
        metrics.committed.inc()
        # The broker's clock may be ahead of ours; a sum that falls would look like a restart.
        observe_all(metrics.end_to_end, [max(0.0, now_s - outcome.record.timestamp / 1000) for outcome in outcomes])
        for model, own in by_model(outcomes).items():
            of_model, best = metrics.of(model), [outcome.best for outcome in own]
            for label, count in Counter(label for label, _score in best).items():
                of_model.requests[label].inc(count)
            observe_all(of_model.confidence, [score for _label, score in best])
            observe_all(of_model.latency, [outcome.latency_s for outcome in own])
        scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
        observe_all(metrics.tokenize, [outcome.text.tokenize_s for outcome in scored])
        observe_all(metrics.queue, [outcome.queue_s for outcome in scored])
        observe_all(metrics.infer, [outcome.batch_s for outcome in scored])
        observe_all(metrics.wait, [began_s - outcome.scored_at_s for outcome in scored])
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        for outcome in refused:
            metrics.dead_letters[outcome.reason].inc()
        if refused:
            first = refused[0].record.offset, refused[0].reason.value
            log.warning("records.refused", partition=tenure.partition.partition, count=len(refused), first=first)
