"""The services that run until they are stopped: `worker` and `listen`, and the page for people, `app`."""

from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Bootstrap, HttpPort, run_on_kafka
from streamgauge.errors import ConfigurationError

app = typer.Typer()


@app.command(epilog="Examples:\n  streamgauge worker -b kafka:9092\n  streamgauge worker --start-from earliest")
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
    from streamgauge.settings import load
    from worker.service import serve
    from worker.settings import WorkerSettings

    settings = load(WorkerSettings, group=group, start_from=start_from, model_dir=model_dir, http_port=http_port)
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: serve(kafka, topics, settings, stop),
        quiet=False,
        grace_s=None,
    )


@app.command(epilog="Examples:\n  streamgauge listen -b kafka:9092 --http-port 8002\n  streamgauge listen --shard 0/2")
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
    from streamgauge.settings import load

    settings = load(ListenerSettings, shard=shard, store=store, http_port=http_port)
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: serve(kafka, topics, settings, stop),
        quiet=False,
        grace_s=None,
    )


@app.command(
    "app",
    epilog="Examples:\n  streamgauge app\n  streamgauge app --http-port 8600 --prometheus http://localhost:9090",
)
def page(
    http_port: Annotated[int | None, typer.Option(help="Port of the page; 0 picks a free one.")] = None,
    listeners: Annotated[
        str | None, typer.Option(help="All listeners, with commas; default: http://localhost:8002.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="A Prometheus with the project's rules: charts then go back further.")
    ] = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """A web page for people: try a text, label what the model said with one key a text, watch how right it is.

    Whoever reaches the page may read texts and label them: by default only this machine does.
    """
    from streamgauge.commands.page.settings import AppSettings
    from streamgauge.settings import load

    settings = load(AppSettings, http_port=http_port, listener_urls=listeners, prometheus_url=prometheus)
    try:
        from streamgauge.commands.page.serve import serve
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the page needs its extra ({error.name}); run, in the project's folder: pip install '.[app]'"
        ) from None
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: serve(kafka, topics, settings, stop, lambda url: typer.echo(f"the page: {url}")),
        grace_s=None,
    )
