"""How far this worker is behind, as brokers tell now: it is known only as long as they answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge.groups import committed_offset
from streamgauge.settings import TopicSettings
from streamgauge.topic_ids import topic_ids
from worker.hopeless import HOPELESS, unless_hopeless
from worker.metrics import Lag
from worker.start import Cluster
from worker.tenure import Tenure

ASK_EVERY_S = 5.0
ASK_TIMEOUT_S = 10.0
LAG_TIMEOUT_S = 5.0
SILENT_S = 30.0
"""Longer than brokers need to hand their partitions over."""


class Ends:
    """Where partitions end. `ask` tells it; a HOPELESS error ends the asking, any other of KafkaError and TimeoutError
    is no answer. `clock` tells seconds from any beginning.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[Mapping[TopicPartition, int]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask, clock
        self._answered_s = clock()
        self._ends: Mapping[TopicPartition, int] = {}
        self._error = ""

    async def watch(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(ASK_EVERY_S)

    async def look(self) -> None:
        """Ask once."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                self._ends = await self._ask()
        except (KafkaError, TimeoutError) as error:
            if isinstance(error, HOPELESS):
                raise
            self._error = type(error).__name__
        else:
            self._answered_s = self._clock()

    def of(self, tp: TopicPartition) -> int | None:
        """The offset after the last record, some seconds ago; None when it has not been told."""
        return self._ends.get(tp)

    def silence(self) -> str | None:
        """None, or for how long no broker has answered, in words."""
        silent_s = self._clock() - self._answered_s
        if silent_s <= SILENT_S:
            return None
        return f"no broker has answered for {silent_s:.0f} s ({self._error}): what is newer is not known"


class InputLag:
    """Of the partitions that are `owned`, of which those in `tenures` are open; both change. For what Kafka is not able
    to do just now, a partition is `excused`.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: TopicSettings,
        group: str,
        owned: Collection[TopicPartition],
        excused: Callable[[TopicPartition], bool],
        tenures: Mapping[TopicPartition, Tenure],
    ) -> None:
        self._cluster, self._topics, self._group = cluster, topics, group
        self._owned, self._excused, self._tenures = owned, excused, tenures
        self._read_to: dict[TopicPartition, int] = {}
        """How far the open ones had been read when the ends were told, past markers and what was aborted."""
        self.ends = Ends(self._ask)

    def known(self) -> list[Lag]:
        """What is known of it now. How old a record is that is held does not need a broker."""
        is_silent, now_s = self.ends.silence() is not None, time.time()
        return [
            Lag(
                tp.partition,
                None if is_silent else self.records(tp),
                None if is_silent and not tenure.held_records else tenure.lag_s(now_s),
                None if is_silent else self._end(tp),
            )
            for tp, tenure in self._tenures.items()
        ]

    def records(self, tp: TopicPartition) -> int | None:
        """Of an open partition, by what brokers told last, when asked or with the last fetch; None: nothing yet."""
        tenure, end = self._tenures[tp], self._end(tp)
        if end is None:
            return None
        if not tenure.held_records and self._read_to.get(tp, 0) >= end:
            return 0
        return max(tenure.held_records, end - tenure.position)

    def _end(self, tp: TopicPartition) -> int | None:
        """The offset after the last record, as brokers told last; None: nothing yet."""
        consumer = self._cluster.consumer
        told = (self.ends.of(tp), consumer.highwater(tp) if tp in consumer.assignment() else None)
        return max((end for end in told if end is not None), default=None)

    async def exists(self) -> bool:
        """Whether brokers say that there are records which this worker should have dealt with, in partitions that are
        not excused; False when they do not say. Raises what is HOPELESS.
        """
        judged = [tp for tp in self._owned if not self._excused(tp)]
        try:
            async with asyncio.timeout(LAG_TIMEOUT_S):
                ends = await self._cluster.consumer.end_offsets(judged)
                return any([await self._is_behind(tp, end) for tp, end in ends.items()])
        except (KafkaError, TimeoutError) as error:
            unless_hopeless(error, topic=self._topics.input, group=self._group)
            return False

    async def _is_behind(self, tp: TopicPartition, end: int) -> bool:
        tenure = self._tenures.get(tp)
        if tenure:
            # What is left behind the last record may be a transaction's marker: only the position passes it.
            return tenure.held_records > 0 or await self._cluster.consumer.position(tp) < end
        committed = await committed_offset(self._cluster.admin, self._group, tp)
        return committed is None or committed.offset < end

    async def _ask(self) -> Mapping[TopicPartition, int]:
        """Asks for all topics too: a worker without a partition is answered as well, and told what it may not see. And
        for an offset of the group: without its coordinator nothing is committed, which nobody else notices while no
        text comes.
        """
        try:
            await topic_ids(self._cluster.admin, [self._topics.input, *self._topics.outputs])
            any_partition = next(iter(self._owned), TopicPartition(self._topics.input, 0))
            await committed_offset(self._cluster.admin, self._group, any_partition)
            ends: Mapping[TopicPartition, int] = await self._cluster.watermarks.end_offsets(list(self._owned))
        except KafkaError as error:
            raise unless_hopeless(error, topic=self._topics.input, group=self._group) from None
        consumer = self._cluster.consumer
        open_now = [tp for tp in self._tenures if tp in consumer.assignment()]
        self._read_to = {tp: await consumer.position(tp) for tp in open_now}
        return ends
