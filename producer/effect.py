"""What a label did: the last result of its id, looked for from the end of the results backwards.

As `latest.py`, it is a service to whoever sends a label, and nobody's guarantee: the listener decides what counts.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.errors import StreamgaugeError
from streamgauge.events import NO_EVENT, Feedback, Prediction, decode_prediction
from streamgauge.kafka import admin_client
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import polls_up_to, topic_reader

LOOK_S = 5.0
FIRST_OFFSETS = 1000
"""So many of each partition are looked at first; then each step back is GROWTH times as long."""
GROWTH = 8

Offsets = Mapping[TopicPartition, int]


class Found(NamedTuple):
    """The last result of an id, if it was found, and when it was written."""

    result: Prediction | None
    at_ms: int
    is_all: bool
    """Nothing is retained that was not looked at."""


async def result_of(kafka: KafkaSettings, topics: TopicSettings, message_id: str) -> Found | None:
    """Takes LOOK_S at most; None when results may not or cannot be read."""
    looked = False
    with suppress(KafkaError, StreamgaugeError, TimeoutError):
        async with asyncio.timeout(LOOK_S), topic_reader(kafka) as consumer:
            async with admin_client(kafka) as admin:
                count = (await check_exist(admin, [topics.results], "Read"))[topics.results]
            partitions = [TopicPartition(topics.results, number) for number in range(count)]
            consumer.assign(partitions)
            begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            step = FIRST_OFFSETS
            while not (found := await _last(kafka, consumer, _back(begins, ends, step), ends, message_id)):
                looked = True
                ends, step = _back(begins, ends, step), step * GROWTH
                if ends == begins:
                    return Found(None, 0, is_all=True)
            return found
    return Found(None, 0, is_all=False) if looked else None


def _back(begins: Offsets, ends: Offsets, step: int) -> Offsets:
    return {tp: max(begin, ends[tp] - step) for tp, begin in begins.items()}


async def _last(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, starts: Offsets, ends: Offsets, message_id: str
) -> Found | None:
    """Of the records in between."""
    for tp, start in starts.items():
        consumer.seek(tp, start)
    key, found = message_id.encode(), None
    async for polled in polls_up_to(consumer, ends, kafka):
        for record in (record for records in polled.values() for record in records if record.key == key):
            with suppress(*NO_EVENT):
                result = decode_prediction(record.value or b"")
                if result.id == message_id and (found is None or found.at_ms <= record.timestamp):
                    found = Found(result, record.timestamp, is_all=False)
    return found


def explained(label: Feedback, found: Found, now_ms: int, window_ms: int) -> str:
    """One line for people: what the label did. `window_ms`: how long results can be judged."""
    result = found.result
    if result is None and found.is_all:
        return f"no result has the id {label.id} yet; should one come within a day, the label judges it"
    if result is None:
        return f"the id {label.id} is not among the latest results; the label judges an older one, if it is right"
    if label.label not in result.scores:
        classes = ", ".join(result.scores)
        return f"{label.label} is no class of {result.model.key}, which scored this text ({classes}): it judges nothing"
    if found.at_ms < now_ms - window_ms:
        return f"the result is older than {window_ms / 86_400_000:g} days: the label counts nowhere"
    verdict = "right" if label.label == result.label else "wrong"
    return f"judged: the model said {result.label} ({result.score:.3f}), and so was {verdict}"
