"""How commands run: settings are read, logs set up, signals obeyed. And the options that several commands have."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamgauge.settings import KafkaSettings, TopicSettings

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap-servers", "-b", help="Kafka's host:port, several with commas.")
]
Group = Annotated[str | None, typer.Option(help="The workers' group.")]
HttpPort = Annotated[int | None, typer.Option(help="Port of /metrics, /livez and /readyz.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JarsDir = Annotated[Path | None, typer.Option(help="A folder that holds Kafka's jars, for machines without a network.")]

LabelMap = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_PAIRS",
        help="What labels mean: 1=POSITIVE,0=NEGATIVE,2= (2 is left out), or a file with a pair a line.",
    ),
]

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
KafkaWork = Callable[["KafkaSettings", "TopicSettings", asyncio.Event], Coroutine[Any, Any, None]]


def run(work: Work, *, quiet: bool = True, grace_s: float | None = 0.0) -> None:
    """Run until it returns, or until `grace_s` after a signal; None: as long as it takes, for what runs until Ctrl-C.

    `quiet`: log from warnings up, unless the environment says otherwise.
    """
    from streamgauge.lifecycle import run as run_until_done
    from streamgauge.settings import LogSettings, load
    from streamgauge.telemetry import set_up_logging

    as_set = load(LogSettings)
    set_up_logging(as_set if "level" in as_set.model_fields_set or not quiet else load(LogSettings, level="warning"))
    run_until_done(work, grace_s=grace_s)


def run_on_kafka(
    bootstrap_servers: str | None, work: KafkaWork, *, quiet: bool = True, grace_s: float | None = 0.0
) -> None:
    """As `run`, with the settings of Kafka and of the topics. `quiet`: for people, who do not wait for long either."""
    from streamgauge.commands.patience import KafkaForPeople
    from streamgauge.settings import KafkaSettings, TopicSettings, load

    reach = KafkaForPeople if quiet else KafkaSettings
    kafka, topics = load(reach, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    run(lambda stop: work(kafka, topics, stop), quiet=quiet, grace_s=grace_s)


def worker_group(group: str | None) -> str:
    """The workers' group: as given, or as the worker's settings name it."""
    from streamgauge.settings import load
    from worker.settings import WorkerSettings

    return load(WorkerSettings, group=group).group


def line_out(line: str) -> bool:
    """Print a line at once; False when nobody reads standard output any more, as after `| head -1`."""
    try:
        print(line, flush=True)  # noqa: T201 - this is the output
    except BrokenPipeError:
        close_standard_output()
        return False
    return True


def close_standard_output() -> None:
    """Nobody reads it any more; what is still buffered must not fail when Python closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
