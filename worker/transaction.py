"""The one writer of a partition's output: a fenced transactional producer."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.aiokafka_private import bound_requests, transaction_end
from streamgauge.aiokafka_records import RawName, new_batch
from streamgauge.denials import most_telling, named
from streamgauge.errors import TopicsUnfit
from streamgauge.groups import transactional_id
from streamgauge.kafka import REQUEST_TIMEOUT_S, close_producer, service_options
from streamgauge.settings import KafkaSettings, TopicSettings
from worker.output import OutputRecord, record_bytes
from worker.settings import WorkerSettings

MAX_BATCH_BYTES = 512 * 1024
OPEN_TIMEOUT_S = 15.0
"""For fencing: the broker ends an earlier transaction first, and its coordinator may be moving."""
BROKER_MARGIN_S = 5.0
"""The broker gives a transaction up later than we do, so that the outcome of ours is never decided behind our back."""


OffsetAfter = Callable[[Mapping[str, tuple[int, int]]], OffsetAndMetadata]
"""The offset to commit, by where the records stand: by topic the offset of the first, and their number."""


class Writer(Protocol):
    """Writes the outcomes of one transaction atomically."""

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        """All records and the offset become visible together, or an error is raised and the outcome is unknown."""


class TransactionalWriter:
    """Writes to partition p of each output topic, under the transactional id of input partition p.

    After any error it must not be used again: fence anew, read the committed offset, read the records again.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        group: str,
        source: TopicPartition,
        timeout_s: float,
        observe_commit_s: Callable[[float], None],
    ) -> None:
        self._producer, self._group, self._source, self._timeout_s = producer, group, source, timeout_s
        self._observe_commit_s = observe_commit_s

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._commit(records, offset_after)
        except (KafkaError, TimeoutError, IllegalOperation, AssertionError) as error:
            raise self._told(error) from None

    async def _commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        by_topic: dict[str, list[OutputRecord]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        await self._producer.begin_transaction()
        # Every delivery is awaited: aiokafka would commit a transaction although a batch of it failed. The offset comes
        # after: of two requests of one producer the broker may turn one away, which is sent again 100 ms later.
        first_offsets = await _all_sent(self._sends(by_topic))
        sent = {topic: (first, len(own)) for (topic, own), first in zip(by_topic.items(), first_offsets, strict=True)}
        await self._producer.send_offsets_to_transaction({self._source: offset_after(sent)}, self._group)
        began_s = time.monotonic()
        await self._producer.commit_transaction()
        self._observe_commit_s(time.monotonic() - began_s)

    def _sends(self, by_topic: Mapping[str, Sequence[OutputRecord]]) -> Iterator[Awaitable[int]]:
        for topic, own in by_topic.items():
            yield send_in_order(self._producer, topic, self._source.partition, own)

    def _told(self, error: Exception) -> Exception:
        """What says most of a transaction's failure. Of one that was just fenced, or denied something,
        aiokafka's transaction manager says IllegalOperation and AssertionError.
        """
        end = transaction_end(self._producer)
        ended = end.exception() if end and end.done() and not end.cancelled() else None
        told = most_telling(error, *([ended] if ended else ()))
        if isinstance(told, KafkaError):
            own_id = transactional_id(self._group, self._source)
            # One that names no topic is of the offset, which only who may read the input commits.
            denied: Exception = named(told, topic=self._source.topic, group=self._group, transactional_id=own_id)
            return denied
        return error if isinstance(error, TimeoutError) else KafkaError(f"the producer cannot go on: {error!r}")


async def _all_sent(sends: Iterable[Awaitable[int]]) -> list[int]:
    """All results, once all have one; of several errors the most telling is raised."""
    done = await asyncio.gather(*sends, return_exceptions=True)
    if errors := [each for each in done if isinstance(each, BaseException)]:
        raise most_telling(*errors)
    return [each for each in done if not isinstance(each, BaseException)]


async def send_in_order(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[OutputRecord]) -> int:
    """In batches that the topic takes; a batch is acknowledged before the next is handed over, so order holds.

    Returns the offset of the first; -1 when there is none, or the broker had the batch already and does not tell.
    """
    any_name = any(type(name) is RawName for record in records for name, _value in record.headers)
    offsets: list[int] = []
    remaining = iter(records)
    record = next(remaining, None)
    while record:
        # Compressed, a record that is larger than what readers unpack could not be read again.
        batch = new_batch(producer, any_name=any_name, is_plain=record_bytes(record) > MAX_BATCH_BYTES)
        while record and batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers):
            record = next(remaining, None)
        batch.close()
        offsets.append((await (await producer.send_batch(batch, topic, partition=partition))).offset)
    return offsets[0] if offsets else -1


@asynccontextmanager
async def fenced_writer(
    kafka: KafkaSettings,
    topics: TopicSettings,
    settings: WorkerSettings,
    source: TopicPartition,
    max_message_bytes: int,
    observe_commit_s: Callable[[float], None] = lambda _seconds: None,
) -> AsyncIterator[TransactionalWriter]:
    """Fence every earlier writer of `source`'s output; yields the only one that may write from now on.

    Until an earlier transaction has ended, the broker makes us wait. Raises KafkaError, TimeoutError, or
    TopicsUnfit when an output has not the partition.
    """
    producer = AIOKafkaProducer(
        transactional_id=transactional_id(settings.group, source),
        transaction_timeout_ms=round((settings.transaction_timeout_s + BROKER_MARGIN_S) * 1000),
        max_batch_size=min(MAX_BATCH_BYTES, max_message_bytes),
        max_request_size=max_message_bytes,
        compression_type="lz4",
        **service_options(kafka),
    )
    bound_requests(producer, REQUEST_TIMEOUT_S)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await producer.start()
            await _check_partition(producer, topics, source.partition)
        yield TransactionalWriter(producer, settings.group, source, settings.transaction_timeout_s, observe_commit_s)
    except BaseException:
        # Nothing that it still holds may become visible: there is nothing to wait for.
        await close_producer(producer, within_s=0)
        raise
    else:
        await close_producer(producer)


async def _check_partition(producer: AIOKafkaProducer, topics: TopicSettings, partition: int) -> None:
    for topic in topics.outputs:
        if partition not in await producer.partitions_for(topic):
            raise TopicsUnfit(f"topic {topic} has no partition {partition}")
