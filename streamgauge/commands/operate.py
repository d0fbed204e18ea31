"""What an operator does: `topics create` makes the topics right, `probe` is a health check, `doctor` finds what is set
wrongly, `skip` and `replay` help when something is stuck.
"""

import asyncio
from typing import Annotated, Literal

import typer

from streamgauge.commands.running import Bootstrap, Group, Json, run_on_kafka, worker_group
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.terminal import harmless

app = typer.Typer()
topics_app = typer.Typer(no_args_is_help=True, help="Make the topics right, or show what is wrong with them.")
app.add_typer(topics_app, name="topics")


@topics_app.command(
    "create",
    epilog="Examples:\n  streamgauge topics create --partitions 12\n  streamgauge topics create --dry-run",
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
    from streamgauge.settings import KafkaSettings, TopicSettings

    of_workers = worker_group(group)

    async def create(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        async for line in make_right(kafka, topics, of_workers, partitions, replication_factor, dry_run=dry_run):
            typer.echo(line)

    # Not quiet: it is the first command after a broker's, so it waits until that is there, and says so.
    run_on_kafka(bootstrap_servers, create, quiet=False)


@app.command(epilog="Examples:\n  streamgauge probe\n  streamgauge probe listener --live")
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


@app.command(epilog="Examples:\n  streamgauge doctor\n  streamgauge doctor --prometheus http://localhost:9090 --json")
def doctor(
    worker: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Where a worker serves its metrics; default: as set, here.")
    ] = None,
    listener: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Where a listener does; default: as set, here.")
    ] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="Look at its rules and targets too.")] = None,
    group: Group = None,
    listed: Annotated[bool, typer.Option("--list", help="Only print what is looked for.")] = False,
    as_json: Json = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Look for what cannot work as it is set, or will not for long: brokers, topics, groups, settings, this machine,
    labels, Prometheus. Nothing is changed.

    Each finding says what is wrong, why it matters, and what mends it. Exit code 1 if there is any. What cannot be
    seen is named, and is no finding.
    """
    from streamgauge.commands.doctor.command import examined
    from streamgauge.commands.doctor.every_check import CHECKS
    from streamgauge.commands.doctor.report import as_json as as_one_object
    from streamgauge.commands.doctor.report import as_page, as_text

    if listed:
        typer.echo("\n".join(as_page(CHECKS)))
        return
    report = examined(worker or [], listener or [], prometheus, group, bootstrap_servers)
    typer.echo(as_one_object(report) if as_json else "\n".join(as_text(report)))
    if report.findings:
        raise typer.Exit(1)


@app.command(epilog="Example:\n  streamgauge skip sentiment.input:3:41507")
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
    from streamgauge.settings import KafkaSettings, TopicSettings
    from worker.skip import skip as skip_record

    of_workers = worker_group(group)

    async def mark(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        before = await skip_record(kafka, topics, of_workers, position)
        typer.echo(f"{position} will become a dead letter; records that come before it: {before}")

    run_on_kafka(bootstrap_servers, mark)


@app.command(
    epilog="Examples:\n  streamgauge replay --reason inference_failed --dry-run\n  streamgauge replay --reason skipped"
)
def replay(
    reason: Annotated[list[str], typer.Option(help="Which dead letters, by __connect.errors.exception.class.name.")],
    group: Group = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and what would not.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also what would be refused again.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish dead letters back to where they came from, with their ids; each once, however often this is run.

    What cannot go back is named with the reason, and passed by this run and all later ones: look at --dry-run first.
    Exit code 1 if there was any. A record that is refused again after its replay is not replayed a second time. So
    nothing is replayed while there are some that a worker of these settings would refuse as they are.
    """
    from streamgauge.events import Reason
    from streamgauge.settings import KafkaSettings, TopicSettings, load
    from worker.replay import replay as replay_letters
    from worker.settings import WorkerSettings

    allowed = [known.value for known in Reason]
    if unknown := set(reason) - set(allowed):
        raise ConfigurationError(f"no such reason: {', '.join(unknown)}; there are {', '.join(allowed)}")
    reasons, worker = [Reason(name) for name in reason], load(WorkerSettings, group=group)

    async def publish(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        if not dry_run and not anyway:
            looked = [done async for done in replay_letters(kafka, topics, worker, reasons, dry_run=True)]
            if again := sum(done.again for done in looked):
                raise ConfigurationError(
                    f"nothing was replayed: of {sum(done.records for done in looked)} dead letters, workers would "
                    f"refuse {again} again as they are. Mend what refuses them, and see --dry-run; or add --anyway"
                )
        passed = 0
        async for done in replay_letters(kafka, topics, worker, reasons, dry_run=dry_run):
            for letter in done.passed:
                typer.echo(f"{'would pass' if dry_run else 'passed'} {letter.position}: {letter.why}")
            refused = f"; workers would refuse {done.again} of them again" if done.again else ""
            did = "would replay" if dry_run else "replayed"
            typer.echo(f"{did} {done.records} dead letters: {done.reason.value}{refused}")
            passed += len(done.passed)
        if passed and not dry_run:
            raise StreamgaugeError(
                f"dead letters that could not go back: {passed}; each is named above, with what to do"
            )

    run_on_kafka(bootstrap_servers, publish)


@app.command(epilog="Examples:\n  streamgauge acls --for worker --principal User:anna\n  streamgauge acls --strimzi")
def acls(
    role: Annotated[
        Literal["worker", "listener", "producer", "labeller", "auditor", "reader", "page", "operator"] | None,
        typer.Option("--for", help="What the user is for; default: all, each under its own name."),
    ] = None,
    principal: Annotated[str | None, typer.Option(help="User:anna or User:CN=anna; default: the role's name.")] = None,
    group: Group = None,
    strimzi: Annotated[bool, typer.Option("--strimzi", help="For a KafkaUser of Strimzi.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Print the least rights that a user needs, as calls of Kafka's own kafka-acls.sh. Nothing is changed.

    worker and listener are the services; producer is for `produce`, labeller for `feedback`, auditor for `audit`,
    reader for `tail`, `stats`, `accuracy`, `reconcile` and `top`, page for `app`, operator for `topics create`, `skip`
    and `replay`.
    """
    from streamgauge.rights import ROLES, as_commands, as_strimzi
    from streamgauge.settings import KafkaSettings, TopicSettings, load

    topics, of_workers = load(TopicSettings), worker_group(group)
    servers = bootstrap_servers or load(KafkaSettings).bootstrap_servers
    for name in [role] if role else ROLES:
        rights = ROLES[name](topics, of_workers)
        typer.echo(f"# {name}")
        lines = as_strimzi(rights) if strimzi else as_commands(rights, principal or f"User:{name}", servers)
        typer.echo("\n".join(lines))
