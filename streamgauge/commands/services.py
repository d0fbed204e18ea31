"""The services that run until they are stopped: `worker` and `listen`."""

from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Bootstrap, HttpPort, run_on_kafka
from streamgauge.settings import load

app = typer.Typer()


@app.command(epilog="Examples:  streamgauge worker -b kafka:9092   |   streamgauge worker --start-from earliest")
def worker(
    bootstrap_servers: Bootstrap = None,
    group: Annotated[str | None, typer.Option(help="Consumer group; replicas of one group share the work.")] = None,
    start_from: Annotated[
        str | None, typer.Option(help="earliest or latest: where a group without committed offsets starts.")
    ] = None,
    model_dir: Annotated[
        Path | None, typer.Option(help="A model directory; default: the model that comes along.")
    ] = None,
    http_port: HttpPort = None,
) -> None:
    """Score the texts of the input topic, exactly once. Run several: they share the partitions."""
    from worker.service import serve
    from worker.settings import WorkerSettings

    settings = load(WorkerSettings, group=group, start_from=start_from, model_dir=model_dir, http_port=http_port)
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: serve(kafka, topics, settings, stop),
        quiet=False,
        grace_s=None,
    )


@app.command(epilog="Examples:  streamgauge listen -b kafka:9092 --http-port 8002   |   streamgauge listen --shard 0/2")
def listen(
    bootstrap_servers: Bootstrap = None,
    shard: Annotated[
        str | None, typer.Option(help="0/2 and 1/2 share the results partitions; two listeners of one are copies.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="File of the cache, one a listener; it may be deleted at any time.")
    ] = None,
    http_port: HttpPort = None,
) -> None:
    """Join labels with results and keep the accuracy gauges."""
    from feedback_listener.service import serve
    from feedback_listener.settings import ListenerSettings

    settings = load(ListenerSettings, shard=shard, store=store, http_port=http_port)
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: serve(kafka, topics, settings, stop),
        quiet=False,
        grace_s=None,
    )
