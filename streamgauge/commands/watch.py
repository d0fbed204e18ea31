"""What people look at: `top` shows a running stack, `tail` shows records as they come, `stats` sums up the past,
`accuracy` says how right models are, `reconcile` counts anew.
"""

import asyncio
import json
from typing import Annotated, Literal

import typer

from streamgauge.commands.running import Bootstrap, Group, Json, run_on_kafka, worker_group
from streamgauge.errors import ConfigurationError, StreamgaugeError

app = typer.Typer()


@app.command(
    epilog="Examples:\n  streamgauge top\n  streamgauge top --worker http://a:8001 --worker http://b:8001 --texts"
)
def top(
    worker: Annotated[
        list[str] | None,
        typer.Option(help="Where a worker serves its metrics; the group names the others. Default: on this machine."),
    ] = None,
    listener: Annotated[
        list[str] | None,
        typer.Option(help="Where a listener serves its metrics; of shards, each. Default: on this machine."),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Show the last results with their texts, on a terminal: these are users'.")
    ] = False,
    group: Group = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """A running stack at a glance: throughput, latency, lag, accuracy, a row a replica; a line at a time in a pipe.

    What cannot be reached is said, and never shown as zero.
    """
    from feedback_listener.settings import ListenerSettings
    from streamgauge.commands.top.run import run_top
    from streamgauge.commands.top.watching import Sources
    from streamgauge.settings import load
    from worker.settings import WorkerSettings

    workers = worker or [f"http://localhost:{load(WorkerSettings).http_port}"]
    listeners = listener or [f"http://localhost:{load(ListenerSettings).http_port}"]
    sources, name = Sources(workers, listeners, texts), worker_group(group)
    run_on_kafka(
        bootstrap_servers, lambda kafka, topics, stop: run_top(kafka, topics, name, sources, stop), grace_s=None
    )


@app.command(epilog="Examples:\n  streamgauge tail results\n  streamgauge tail dead-letters --from 1d --values")
def tail(
    what: Annotated[Literal["results", "audit", "metrics", "dead-letters"], typer.Argument(help="Which topic.")],
    since: Annotated[
        str | None, typer.Option("--from", help="1h (so long ago), earliest, or a time; unset: only what comes.")
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="With keys and values of dead letters: these are users' texts.")
    ] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Show results (of the audit or all), metric events or dead letters as they are committed, until Ctrl-C."""
    from streamgauge.commands import tail as module
    from streamgauge.commands.reading import moment_ms
    from streamgauge.lifecycle import clock_ms, unless_stopped
    from streamgauge.settings import KafkaSettings, TopicSettings

    since_ms = moment_ms(since, clock_ms()) if since else None

    async def show(kafka: KafkaSettings, topics: TopicSettings, stop: asyncio.Event) -> None:
        topic, line_of = module.lines_of(what, topics, with_values=values)
        await unless_stopped(stop, module.tail(kafka, topic, since_ms, line_of))

    run_on_kafka(bootstrap_servers, show, grace_s=None)


@app.command(
    epilog="Examples:\n  streamgauge stats --from 1h --every 5m\n  streamgauge stats --from 7d --by worker --json"
)
def stats(
    since: Annotated[
        str, typer.Option("--from", help="1h (so long ago), earliest, or a time: 2026-01-31T12:00.")
    ] = "1h",
    every: Annotated[str, typer.Option(help="A row for each 90s, 5m, 1h, 7d.")] = "1m",
    by: Annotated[
        Literal["time", "worker", "partition", "model"], typer.Option(help="What rows are made of.")
    ] = "time",
    as_json: Json = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Throughput and latency of the past, as a table, from the metrics topic alone."""
    from streamgauge.commands import stats as module
    from streamgauge.commands.reading import moment_ms, seconds
    from streamgauge.lifecycle import clock_ms

    since_ms, collected = moment_ms(since, clock_ms()), module.Stats(by, seconds(every))
    run_on_kafka(bootstrap_servers, lambda kafka, topics, _stop: module.collect(kafka, topics, since_ms, collected))
    rows = collected.rows()
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        module.show(rows)
    else:
        typer.echo(f"no transaction since {since}", err=True)


@app.command(
    epilog="Examples:\n  streamgauge accuracy\n  streamgauge accuracy --json\n  "
    "streamgauge accuracy --listener http://a:8002 --listener http://b:8002"
)
def accuracy(
    listener: Annotated[
        list[str] | None,
        typer.Option(help="Where a listener serves its metrics; of shards, each. Default: this machine's, if it runs."),
    ] = None,
    as_json: Json = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """How right each model is: of all labels and of the audit's, with intervals, and how many labels they rest on.

    The numbers are a listener's. Where none runs on this machine they are counted from the topics; that holds the whole
    window in memory, some 500 bytes a record.
    """
    from feedback_listener.accuracy import report_accuracy
    from feedback_listener.settings import ListenerSettings
    from streamgauge.settings import KafkaSettings, TopicSettings, load

    settings = load(ListenerSettings)
    urls = listener or [f"http://localhost:{settings.http_port}"]

    async def show(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        terms = settings.terms(topics.join_window_ms)
        await report_accuracy(kafka, topics, terms, urls, is_json=as_json, or_topics=not listener)

    run_on_kafka(bootstrap_servers, show)


@app.command(
    epilog="Examples:\n  streamgauge reconcile\n  streamgauge reconcile --listener http://a:8002 --listener http://b:8002"
    "\n  streamgauge reconcile --at 2026-01-31T12:00"
)
def reconcile(
    listener: Annotated[
        list[str] | None, typer.Option(help="Where a listener serves its metrics; default: http://localhost:8002.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Ask no listener: show numbers, intervals and alarms of a past moment (6h: so long ago; or a time), "
            "by this command's own STREAMGAUGE_LISTENER_… settings."
        ),
    ] = None,
    as_json: Json = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Count the listeners' numbers anew from the topics, at the offsets and the time that they report, and compare.

    Exit code 0 only if all are equal. Holds the whole window in memory, some 500 bytes a record.
    """
    from streamgauge.settings import KafkaSettings, TopicSettings

    if at is not None:
        if listener:
            raise ConfigurationError("give either --at or --listener")
        _show_moment(at, as_json=as_json, bootstrap_servers=bootstrap_servers)
        return
    from feedback_listener.reconcile import report

    urls = listener or ["http://localhost:8002"]

    async def compare(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        if not await report(kafka, topics, urls, as_json=as_json):
            raise StreamgaugeError("the numbers are not those that follow from the topics")

    run_on_kafka(bootstrap_servers, compare)


def _show_moment(at: str, *, as_json: bool, bootstrap_servers: str | None) -> None:
    from feedback_listener.moment import report_moment
    from feedback_listener.settings import ListenerSettings
    from streamgauge.commands.reading import moment_ms
    from streamgauge.lifecycle import clock_ms
    from streamgauge.settings import KafkaSettings, TopicSettings, load

    now_ms = clock_ms()
    at_ms, settings = moment_ms(at, now_ms), load(ListenerSettings)
    if at_ms > now_ms:
        raise ConfigurationError(f"--at {at} is not over yet")

    async def show(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        await report_moment(kafka, topics, settings.terms(topics.join_window_ms), at_ms, is_json=as_json)

    run_on_kafka(bootstrap_servers, show)
