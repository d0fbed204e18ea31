"""The command's own part: settings are read, the picture is taken, all checks are made."""

import asyncio
from collections.abc import Sequence

from feedback_listener.settings import ListenerSettings
from streamgauge.commands.doctor.checks import Report, examine
from streamgauge.commands.doctor.collect import Addresses, take
from streamgauge.commands.doctor.every_check import CHECKS
from streamgauge.commands.doctor.picture import Setup
from streamgauge.errors import ConfigurationError
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings, load
from streamgauge.telemetry import set_up_logging
from worker.settings import WorkerSettings


def examined(
    workers: Sequence[str],
    listeners: Sequence[str],
    prometheus: str | None,
    group: str | None,
    bootstrap_servers: str | None,
) -> Report:
    """What is found. Raises ConfigurationError for a setting or an address that is none."""
    setup = Setup(
        load(KafkaSettings, bootstrap_servers=bootstrap_servers),
        load(TopicSettings),
        load(WorkerSettings, group=group),
        load(ListenerSettings),
    )
    for url in (*workers, *listeners, *([prometheus] if prometheus else [])):
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"{url}: an address begins with http:// or https://")
    reports: list[Report] = []

    async def look(_stop: asyncio.Event) -> None:
        picture = await take(setup, Addresses(workers, listeners, prometheus))
        reports.append(examine(CHECKS, picture))

    as_set = load(LogSettings)
    # What clients warn of, the report says better.
    set_up_logging(as_set if "level" in as_set.model_fields_set else load(LogSettings, level="error"))
    run(look, grace_s=0.0)
    return reports[0]
