"""What an operator does: `topics create` makes the topics right, `probe` is a health check, `skip` and `replay` help
when something is stuck.
"""

import asyncio
from typing import Annotated, Literal

import typer

from streamgauge.commands.running import Bootstrap, Group, run_on_kafka, worker_group
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import harmless

app = typer.Typer()
topics_app = typer.Typer(no_args_is_help=True, help="Make the topics right, or show what is wrong with them.")
app.add_typer(topics_app, name="topics")


@topics_app.command(
    "create",
    epilog="Examples:  streamgauge topics create --partitions 12   |   streamgauge topics create --dry-run",
)
def create_topics(
    partitions: Annotated[
        int, typer.Option(min=1, max=100_000, help="At least so many partitions for every topic.")
    ] = 4,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Default: 3, or as many as there are brokers.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The workers' group, whose starting offset is committed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Create the topics, or give them what the guarantees need, and start the workers' group at their beginning.

    Running it again changes nothing. It only adds: no partition is removed, no retention shortened, no limit lowered,
    and no setting touched that the guarantees do not need.
    """
    from streamgauge.provisioning import make_right

    of_workers = worker_group(group)

    async def create(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        async for line in make_right(kafka, topics, of_workers, partitions, replication_factor, dry_run=dry_run):
            typer.echo(line)

    run_on_kafka(bootstrap_servers, create)


@app.command(epilog="Examples:  streamgauge probe   |   streamgauge probe listener --live")
def probe(
    service: Annotated[
        Literal["worker", "listener"] | None, typer.Argument(help="Default: each that listens on its configured port.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask whether it is alive, not whether it is ready.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long an answer may take.")] = 3,
) -> None:
    """Ask a service on this machine whether it is ready: a health check. Exit code 0 only if it is.

    Its address is that of the settings, STREAMGAUGE_WORKER_HTTP_PORT for instance.
    """
    from streamgauge.commands.probe import answers

    for name, text in answers(service, "/livez" if live else "/readyz", timeout_s).items():
        typer.echo(harmless(f"{name}: {text}"))


@app.command(epilog="Example:  streamgauge skip sentiment.input:3:41507")
def skip(
    position: Annotated[
        str, typer.Argument(metavar="TOPIC:PARTITION:OFFSET", help="The record that kills the workers.")
    ],
    group: Group = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Get the workers past a record that kills their process: it becomes a dead letter, unscored.

    To find it, start one worker with STREAMGAUGE_LOG_LEVEL=debug, STREAMGAUGE_WORKER_MODEL_SLOTS=1 and
    STREAMGAUGE_WORKER_MAX_BATCH_TOKENS=8: the last line batch.scoring names it as PARTITION:OFFSET.
    """
    from worker.skip import skip as skip_record

    of_workers = worker_group(group)
    run_on_kafka(bootstrap_servers, lambda kafka, topics, _stop: skip_record(kafka, topics, of_workers, position))
    typer.echo(f"{position} will become a dead letter")


@app.command(
    epilog="Examples:  streamgauge replay --reason inference_failed --dry-run   |   streamgauge replay --reason skipped"
)
def replay(
    reason: Annotated[list[str], typer.Option(help="Which dead letters, by __connect.errors.exception.class.name.")],
    group: Group = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and what would not.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish dead letters back to where they came from, with their ids; each once, however often this is run.

    What cannot go back is named with the reason, and passed by this run and all later ones: look at --dry-run first.
    Exit code 1 if there was any. A record that is refused again after its replay is not replayed a second time.
    """
    from streamgauge.events import Reason
    from worker.replay import replay as replay_letters

    allowed = [known.value for known in Reason]
    if unknown := set(reason) - set(allowed):
        raise ConfigurationError(f"no such reason: {', '.join(unknown)}; there are {', '.join(allowed)}")
    reasons, of_workers = [Reason(name) for name in reason], worker_group(group)

    async def publish(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        passed = 0
        async for done in replay_letters(kafka, topics, of_workers, reasons, dry_run=dry_run):
            for letter in done.passed:
                typer.echo(f"{'would pass' if dry_run else 'passed'} {letter.position}: {letter.why}")
            typer.echo(f"{'would replay' if dry_run else 'replayed'} {done.records} dead letters: {done.reason.value}")
            passed += len(done.passed)
        if passed and not dry_run:
            raise StreamgaugeError(
                f"dead letters that could not go back: {passed}; each is named above, with what to do"
            )

    run_on_kafka(bootstrap_servers, publish)
