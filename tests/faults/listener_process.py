"""A listener in a process of its own, right or wrong on purpose.

Run as `python -m tests.faults.listener_process '{"bootstrap_servers": …}'`; see `Plan`. It logs JSON lines on standard
error, among them the port that it serves on.
"""

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

import feedback_listener.service
from feedback_listener.service import serve
from feedback_listener.settings import ListenerSettings
from feedback_listener.topic_reader import TopicReader
from feedback_listener.totals import Positions
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from streamgauge.telemetry import set_up_logging


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which listener this is."""

    bootstrap_servers: str
    prefix: str
    store: str
    shard: str = "0/1"
    log_level: Literal["info", "debug"] = "debug"
    positions_from_kafka: bool = False
    """The control: where it goes on is what it last committed to Kafka, not what stands in the store."""


class PositionsFromKafka(TopicReader):
    """Wrong on purpose: rows and positions change in two places, one after the other."""

    def __init__(self, kafka: KafkaSettings, *arguments: Any) -> None:
        super().__init__(kafka, *arguments)
        self._committer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers, group_id="listener", enable_auto_commit=False
        )

    async def start(self) -> None:
        await super().start()
        await self._committer.start()

    async def assign(self, new: set[TopicPartition], positions: Positions, horizons_ms: Any) -> Positions:
        self._committer.assign(list(new))
        for tp in new:
            positions[self.key(tp)] = await self._committer.committed(tp) or 0
        return await super().assign(new, positions, horizons_ms)

    async def positions(self) -> Positions:
        handed_out = await super().positions()
        if self._seen:
            await self._committer.commit(dict(self._seen))
        return handed_out


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    set_up_logging(LogSettings(level=plan.log_level, format="json"))
    if plan.positions_from_kafka:
        vars(feedback_listener.service)["TopicReader"] = PositionsFromKafka
    kafka, topics = KafkaSettings(bootstrap_servers=plan.bootstrap_servers), TopicSettings(prefix=plan.prefix)
    settings = ListenerSettings(http_host="127.0.0.1", http_port=0, store=Path(plan.store), shard=plan.shard)
    run(lambda stop: serve(kafka, topics, settings, stop))


if __name__ == "__main__":
    main()
