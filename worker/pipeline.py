"""The stages between a poll and a partition's transaction, as coroutines of one task group.

    polled ─▶ intake ─▶ backlog ─▶ infer xN ─▶ tenures (offset order) ─▶ a transaction per partition

A source that ends, as a list does, ends the stages: intake closes the backlog, and that ends the inference. A worker's
source does not end: the worker stops by handing its partitions over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import structlog

from streamgauge.events import Reason
from worker.backlog import Backlog
from worker.intake import decode
from worker.metrics import Metrics
from worker.model.scorer import InferenceError, Probabilities, Scorer, TokenIds
from worker.outcomes import Accepted, Encoded, InputRecord, ModelIdentity, Outcome, Refused, Scored, Visible
from worker.settings import WorkerSettings
from worker.tenure import Tenure

log = structlog.get_logger(__name__)

CHUNK_TEXTS = 256
CHUNK_CHARS = 131_072
"""A tokenizer takes some 150 bytes a character while it works."""
LOOP_PROBE_S = 0.1


def chunks(accepted: Sequence[tuple[Tenure, Accepted]]) -> Iterator[list[tuple[Tenure, Accepted]]]:
    """Of CHUNK_TEXTS texts or CHUNK_CHARS characters, whichever is fewer; a longer text is a chunk of its own."""
    chunk: list[tuple[Tenure, Accepted]] = []
    characters = 0
    for tenure, text in accepted:
        if chunk and (len(chunk) == CHUNK_TEXTS or characters + len(text.text) > CHUNK_CHARS):
            yield chunk
            chunk, characters = [], 0
        chunk.append((tenure, text))
        characters += len(text.text)
    if chunk:
        yield chunk


class Waiting(NamedTuple):
    """A text that waits for the model, and the tenure that its outcome goes to."""

    tenure: Tenure
    text: Encoded

    @property
    def tokens(self) -> int:
        return len(self.text.ids)


class Pipeline:
    """Scores what the source yields and gives each outcome to the tenure that its record came from."""

    def __init__(self, model: Scorer, settings: WorkerSettings, metrics: Metrics) -> None:
        self._model, self._settings, self._metrics = model, settings, metrics
        self._identity = ModelIdentity(model.ref, model.labels)
        metrics.use(self._identity)
        self._backlog: Backlog[Waiting] = Backlog(settings.max_batch_tokens)
        self._threads = ThreadPoolExecutor(settings.model_slots, thread_name_prefix="model")
        # A thread of its own: the allocator keeps tens of MB for each thread that has ever tokenised.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        metrics.model_slots.set(settings.model_slots)
        metrics.backlog_records.set_function(lambda: len(self._backlog))

    def in_use(self) -> ModelIdentity:
        """The model that scores now."""
        return self._identity

    async def intake(self, source: AsyncIterator[Sequence[tuple[Tenure, Sequence[InputRecord]]]]) -> None:
        """Decode and tokenise until the source ends."""
        async for polled in source:
            accepted = [pair for tenure, records in polled for pair in self._accept(tenure, records)]
            for chunk in chunks(accepted):
                await self._encode(chunk)
        self.end()

    def end(self) -> None:
        """Nothing more will come: the inference ends when it has scored what waits."""
        self._backlog.close()

    def _accept(self, tenure: Tenure, records: Sequence[InputRecord]) -> Iterator[tuple[Tenure, Accepted]]:
        for record in records:
            tenure.admit(record)
            if shown := tenure.tail.shown.get(record.offset):
                tenure.finish(Visible(record, shown))
                continue
            if record.offset in tenure.skips:
                tenure.finish(Refused(record, Reason.SKIPPED, "skipped by an operator"))
                continue
            decoded = decode(record, max_text_bytes=self._settings.max_text_bytes)
            if isinstance(decoded, Accepted):
                yield tenure, decoded
            else:
                tenure.finish(decoded)

    async def _encode(self, chunk: list[tuple[Tenure, Accepted]]) -> None:
        began_s = time.monotonic()
        texts = [accepted.text for _tenure, accepted in chunk]
        encodings = await asyncio.get_running_loop().run_in_executor(self._tokenizing, self._model.encode, texts)
        now_s = time.monotonic()
        self._backlog.put(
            Waiting(
                tenure,
                Encoded(
                    accepted.record,
                    accepted.message_id,
                    accepted.metadata,
                    ids,
                    truncated,
                    tokenize_s=now_s - began_s,
                    waiting_since_s=now_s,
                ),
            )
            for (tenure, accepted), (ids, truncated) in zip(chunk, encodings, strict=True)
            if tenure.accepts
        )

    def discard_unwanted(self) -> None:
        """Drop the texts whose tenure takes no more."""
        self._backlog.discard(lambda waiting: not waiting.tenure.accepts)

    async def infer(self) -> None:
        """Score batches, one at a time, until the backlog ends; one such task a model slot."""
        while cut := await self._backlog.cut():
            batch = [waiting for waiting in cut if waiting.tenure.accepts]
            for tenure, _text in batch:
                tenure.enter_model()
            outcomes = await self._score([text for _tenure, text in batch])
            for (tenure, _text), outcome in zip(batch, outcomes, strict=True):
                tenure.finish(outcome)
                tenure.leave_model()

    async def _score(self, batch: Sequence[Encoded]) -> list[Outcome]:
        """Outcomes of a batch, in its order; one that fails is halved until the record that fails alone is found."""
        if not batch:
            return []
        began_s = time.monotonic()
        # The last such line of a process that died in the model names the records to suspect.
        if log.is_enabled_for(logging.DEBUG):
            log.debug("batch.scoring", records=[f"{text.record.partition}:{text.record.offset}" for text in batch])
        try:
            probabilities = await self._in_thread([text.ids for text in batch])
        except InferenceError as error:
            self._metrics.failed_batches.inc()
            if len(batch) == 1:
                return [await self._condemn(batch[0].record, error)]
            middle = len(batch) // 2
            return [*await self._score(batch[:middle]), *await self._score(batch[middle:])]
        now_s = time.monotonic()
        padded_tokens = max(text.tokens for text in batch)
        self._observe(batch, padded_tokens, began_s, now_s)
        infer_s = (now_s - began_s) / len(batch)
        return [
            Scored(text, self._identity, row, began_s - text.waiting_since_s, infer_s, padded_tokens, now_s)
            for text, row in zip(batch, probabilities.tolist(), strict=True)
        ]

    async def _in_thread(self, ids: list[TokenIds]) -> Probabilities:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._model.score, ids)

    async def _condemn(self, record: InputRecord, error: InferenceError) -> Refused:
        """A record fails alone: if the known-answer texts fail as well it is the model, and the process ends."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._model.verify)
        log.error("inference.failed", topic=record.topic, partition=record.partition, offset=record.offset)
        return Refused(
            record, Reason.INFERENCE_FAILED, f"the model fails on this text: {type(error.__cause__).__name__}"
        )

    def _observe(self, batch: Sequence[Encoded], padded_tokens: int, began_s: float, now_s: float) -> None:
        metrics, texts, infer_s = self._metrics, len(batch), now_s - began_s
        metrics.model_busy.inc(infer_s)
        metrics.batch_texts.observe(texts)
        metrics.batch_tokens.observe(padded_tokens * texts)
        metrics.padded_tokens.inc(padded_tokens * texts)
        metrics.tokens.inc(sum([text.tokens for text in batch]))
        metrics.truncated.inc(sum([text.truncated for text in batch]))

    async def probe_event_loop(self) -> None:
        """Measure how late the loop runs a timer: a blocked loop shows here, whatever blocked it."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LOOP_PROBE_S
            await asyncio.sleep(LOOP_PROBE_S)
            self._metrics.event_loop_lag.observe(max(0.0, loop.time() - due_s))

    def close(self) -> None:
        """Let go of the threads: one that hangs in the model cannot be ended, and must not hold up the rest."""
        for threads in (self._threads, self._tokenizing):
            threads.shutdown(wait=False, cancel_futures=True)
