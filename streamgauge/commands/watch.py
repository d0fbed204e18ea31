"""What people look at: `tail` shows records as they come, `stats` sums up the past, `reconcile` counts anew."""

import asyncio
import json
from typing import Annotated, Literal

import typer

from streamgauge.commands.running import Bootstrap, Json, run_on_kafka
from streamgauge.errors import StreamgaugeError
from streamgauge.settings import KafkaSettings, TopicSettings

app = typer.Typer()


@app.command(epilog="Examples:  streamgauge tail results   |   streamgauge tail dead-letters --from 1d --values")
def tail(
    what: Annotated[Literal["results", "metrics", "dead-letters"], typer.Argument(help="Which topic.")],
    since: Annotated[
        str | None, typer.Option("--from", help="1h (so long ago), earliest, or a time; unset: only what comes.")
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="With keys and values of dead letters: these are users' texts.")
    ] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Show results, metric events or dead letters as they are committed, a line each, until Ctrl-C."""
    from streamgauge.commands import tail as module
    from streamgauge.commands.reading import moment_ms
    from streamgauge.lifecycle import clock_ms, unless_stopped

    since_ms = moment_ms(since, clock_ms()) if since else None

    async def show(kafka: KafkaSettings, topics: TopicSettings, stop: asyncio.Event) -> None:
        topic, line_of = module.lines_of(what, topics, with_values=values)
        await unless_stopped(stop, module.tail(kafka, topic, since_ms, line_of))

    run_on_kafka(bootstrap_servers, show, grace_s=None)


@app.command(
    epilog="Examples:  streamgauge stats --from 1h --every 5m   |   streamgauge stats --from 7d --by worker --json"
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
    epilog="Examples:  streamgauge reconcile   |   streamgauge reconcile --listener http://a:8002 --listener http://b:8002"
)
def reconcile(
    listener: Annotated[
        list[str] | None, typer.Option(help="Where a listener serves its metrics; default: http://localhost:8002.")
    ] = None,
    as_json: Json = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Count the listeners' numbers anew from the topics, at the offsets and the time that they report, and compare.

    Exit code 0 only if all are equal. Holds the whole window in memory, some 500 bytes a record.
    """
    from feedback_listener.reconcile import report

    urls = listener or ["http://localhost:8002"]

    async def compare(kafka: KafkaSettings, topics: TopicSettings, _stop: asyncio.Event) -> None:
        if not await report(kafka, topics, urls, as_json=as_json):
            raise StreamgaugeError("the numbers are not those that follow from the topics")

    run_on_kafka(bootstrap_servers, compare)
