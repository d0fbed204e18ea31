"""Follows in Kafka what workers write, and how far their group is. Each part has rights of its own, and fails alone."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streamgauge.commands.audit_texts import Texts, text_reader
from streamgauge.commands.reading import reader
from streamgauge.commands.top.flow import KEPT_S, Flow, committed_of
from streamgauge.commands.top.picture import Known, Said
from streamgauge.commands.top.replicas import GroupShown
from streamgauge.events import MAX_LABEL_CHARS, NO_EVENT, decode_measurement, decode_prediction
from streamgauge.groups import group_members
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import Deadline, clock_ms
from streamgauge.provisioning import check_exist
from streamgauge.rights import check_rights, looking_at_group
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import topic_reader

EVERY_S = 1.0
POLL_MS = 200
SHOWN_TEXTS = 6
MAX_SHOWN_CHARS = 500
MAX_NAME_CHARS = 100
"""As long as a worker's name can be set."""
TEXTS_SINCE_MS = 60_000

Where = tuple[int, int]
"""A partition of the results, and an offset."""


class Follower:
    """Each method follows until it is cancelled, and raises when it cannot go on: StreamgaugeError, KafkaError, or
    TimeoutError when no broker answers within the settings' `connect_timeout_s`.
    """

    def __init__(self, known: Known, kafka: KafkaSettings, topics: TopicSettings, group: str) -> None:
        self._known, self._kafka, self._topics, self._group = known, kafka, topics, group

    async def events(self) -> None:
        """What workers have committed, from the metrics topic; its history first."""
        flow = Flow()
        async with reader(self._kafka, self._topics.metrics, clock_ms() - KEPT_S * 1000) as consumer:
            history = await self._ends(consumer, consumer.assignment())
            while True:
                deadline = Deadline(EVERY_S)
                while deadline.left_s:
                    for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                        for record in records:
                            _add(flow, record, is_history=record.offset < history[tp])
                # Kafka's client hides a broker that does not answer: a poll finds nothing then.
                await self._ends(consumer, consumer.assignment())
                if all([await consumer.position(tp) >= end for tp, end in history.items()]):
                    self._known.events = flow
                    self._known.is_told("events")

    async def group(self) -> None:
        """Who is in the group, and how far it is."""
        topic = self._topics.input
        async with admin_client(self._kafka) as admin, topic_reader(self._kafka) as consumer:
            await check_rights(admin, looking_at_group(self._topics, self._group))
            partitions = [
                TopicPartition(topic, n) for n in range((await check_exist(admin, [topic], "Describe"))[topic])
            ]
            while True:
                async with asyncio.timeout(self._kafka.connect_timeout_s):
                    members = await group_members(admin, self._group)
                    committed = await admin.list_consumer_group_offsets(self._group)
                ends = await self._ends(consumer, partitions)
                self._known.group = GroupShown(
                    members, {tp.partition: _lag(committed.get(tp), ends[tp]) for tp in ends}
                )
                self._known.is_told("group")
                await asyncio.sleep(EVERY_S)

    async def said(self) -> None:
        """The last results, and their texts where these stood in the input."""
        topic = self._topics.input
        async with admin_client(self._kafka) as admin:
            count = (await check_exist(admin, [topic], "Read"))[topic]
        found: dict[Where, Said | None] = {}
        async with (
            reader(self._kafka, self._topics.results, clock_ms() - TEXTS_SINCE_MS) as results,
            text_reader(self._kafka, topic, count) as texts,
        ):
            latest: deque[Any] = deque(maxlen=SHOWN_TEXTS)
            while True:
                deadline = Deadline(EVERY_S)
                while deadline.left_s:
                    polled = await results.getmany(timeout_ms=POLL_MS)
                    came = [record for records in polled.values() for record in records]
                    latest.extend(sorted(came, key=lambda record: record.timestamp))
                wheres = [(record.partition, record.offset) for record in latest]
                if found.keys() != set(wheres):
                    await texts.look()
                    found = {
                        where: found[where] if where in found else await _said(texts, record)
                        for where, record in zip(wheres, latest, strict=True)
                    }
                self._known.said = [said for said in found.values() if said]
                self._known.is_told("said")

    async def _ends(
        self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        async with asyncio.timeout(self._kafka.connect_timeout_s):
            ends: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
            return ends


def _add(flow: Flow, record: Any, *, is_history: bool) -> None:
    """What has just come was committed now, whatever the broker's clock says; what is no event of ours is left out."""
    age_s = max(0, clock_ms() - record.timestamp) / 1000 if is_history else 0
    with suppress(*NO_EVENT, ValueError):
        event = decode_measurement(record.value or b"")
        flow.add(event.worker[:MAX_NAME_CHARS], time.monotonic() - age_s, committed_of(event))


def _lag(committed: OffsetAndMetadata | None, end: int) -> int | None:
    return max(0, end - committed.offset) if committed and committed.offset >= 0 else None


async def _said(texts: Texts, record: Any) -> Said | None:
    """None when it is no event of ours."""
    with suppress(*NO_EVENT):
        prediction = decode_prediction(record.value or b"")
        text = await texts.at(prediction.source)
        return Said(text and text[:MAX_SHOWN_CHARS], prediction.label[:MAX_LABEL_CHARS], prediction.score)
    return None
