"""A doctor at a real Kafka: settings for a test's own stream, and what is found with them."""

from pathlib import Path
from typing import Any

from feedback_listener.settings import ListenerSettings
from streamgauge.commands.doctor.checks import Report, examine
from streamgauge.commands.doctor.collect import Addresses, take
from streamgauge.commands.doctor.every_check import CHECKS
from streamgauge.commands.doctor.picture import Setup
from streamgauge.kafka import admin_client
from streamgauge.provisioning import apply
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topics import Change
from tests.cluster import Stream
from worker.settings import WorkerSettings

NO_SERVICES = {"http_port": 0}
HTTP = {"no-labels", "labels-of-no-class", "labels-unmatched", "clock-skew", "models-differ"}
PROMETHEUS = {"rules-missing", "targets-missing", "alertmanager-missing", "shard-missing"}


def setup_of(kafka: KafkaSettings, topics: TopicSettings, group: str, folder: Path, **worker: Any) -> Setup:
    """One model slot, and no service on this machine."""
    given: dict[str, Any] = {"group": group, "model_slots": 1} | NO_SERVICES | worker
    listener = ListenerSettings(store=folder / "listener.sqlite", http_port=0)
    return Setup(kafka, topics, WorkerSettings(**given), listener)


async def report_of(setup: Setup, addresses: Addresses = Addresses()) -> Report:  # noqa: B008 - a constant
    return examine(CHECKS, await take(setup, addresses))


async def found_of(stream: Stream, folder: Path, **worker: Any) -> list[str]:
    """The checks that find something at a stream; all that only need Kafka and this machine are made."""
    report = await report_of(setup_of(stream.kafka, stream.topics, stream.group, folder, **worker))
    found = [finding.check for finding in report.findings]
    if not {"kafka-unreachable", "kafka-address", "topic-missing"} & set(found):
        assert {name for name, _because in report.not_made} <= HTTP | PROMETHEUS, report.not_made
    return found


async def configure(stream: Stream, topic: str, **config: str) -> None:
    """Set something on a topic, as a user would; `_` stands for a dot."""
    dotted = {name.replace("_", "."): value for name, value in config.items()}
    async with admin_client(stream.kafka) as admin:
        await apply(admin, Change(topic, "", config=dotted), 1)
