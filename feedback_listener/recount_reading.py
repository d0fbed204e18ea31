"""Reads from the topics what `recount.py` counts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from feedback_listener.decoding import decode_label, decode_result
from feedback_listener.records import Refusal, Stream
from feedback_listener.recount_records import LEAD_MS, Labelled, Predicted, TopicRecords
from streamgauge.events import NO_EVENT
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import polls_up_to

HOUR_MS = 3_600_000


class _Digest(msgspec.Struct):
    digest: str = ""


class _OfModel(msgspec.Struct):
    model: _Digest


_decode_digest = msgspec.json.Decoder(_OfModel).decode


def matters_since_ms(now_ms: int, window_ms: int) -> int:
    """From when on records matter to the numbers of a moment: labels may come before their predictions."""
    return max(0, (now_ms - window_ms - LEAD_MS) // HOUR_MS * HOUR_MS)


async def records_before(
    kafka: KafkaSettings,
    consumer: AIOKafkaConsumer,
    topics: TopicSettings,
    ends: Mapping[TopicPartition, int],
    since_ms: int,
) -> TopicRecords:
    """The committed records of the listener's topics from a time on and before these offsets."""
    records = TopicRecords()
    async for record in _read(kafka, consumer, ends, since_ms):
        _add(records, record, topics)
    return records


async def _read(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], since_ms: int
) -> AsyncIterator[ConsumerRecord]:
    """The committed records from a time on and before these offsets."""
    starts = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
    consumer.assign(list(ends))
    for tp, end in ends.items():
        consumer.seek(tp, min(starts[tp].offset, end) if starts[tp] else end)
    async for polled in polls_up_to(consumer, ends, kafka):
        for records in polled.values():
            for record in records:
                yield record


def _add(records: TopicRecords, record: ConsumerRecord, topics: TopicSettings) -> None:
    at_ms, partition = record.timestamp, record.partition
    if record.topic in (topics.results, topics.audit):
        is_audited = record.topic == topics.audit
        result = decode_result(record.value)
        if isinstance(result, Refusal):
            name = f"streamgauge_{Stream.AUDIT if is_audited else Stream.RESULTS}_refused"
            records.refused.append((name, partition, result, at_ms))
        else:
            model = f"{result.model.name}@{result.model.version}"
            with suppress(*NO_EVENT):  # nothing is counted by it
                records.digests[model].add(_decode_digest(record.value or b"").model.digest)
            records.predictions[result.id].append(
                Predicted(at_ms, partition, record.offset, model, result.label, result.scores, is_audited)
            )
    else:
        label = decode_label(record.value)
        if isinstance(label, Refusal):
            records.refused.append(("streamgauge_feedback_refused", partition, label, at_ms))
        else:
            records.labels[label.id].append(Labelled(at_ms, partition, record.offset, label.label, label.source))
