"""Everything on one machine, for trying out: `broker` is Apache Kafka, `demo` all parts together."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import JarsDir, LabelMap, run

app = typer.Typer()


@app.command(epilog="Examples:\n  streamgauge broker\n  streamgauge broker --data-dir ./kafka --port 9092")
def broker(
    data_dir: Annotated[Path | None, typer.Option(help="Kept between starts; unset: thrown away at the end.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on 127.0.0.1.")] = 9092,
    jars_dir: JarsDir = None,
) -> None:
    """Run the embedded Apache Kafka until Ctrl-C. For trying out and tests, not for production."""
    from streamgauge.broker.embedded import EmbeddedKafka

    async def serve(stop: asyncio.Event) -> None:
        kafka = EmbeddedKafka(data_dir=data_dir, port=port, jars_dir=jars_dir, progress=typer.echo)
        try:
            await asyncio.to_thread(kafka.start)
            typer.echo(f"Apache Kafka is ready at {kafka.bootstrap_servers}; Ctrl-C ends it")
            await stop.wait()
        finally:
            await asyncio.to_thread(kafka.stop)

    run(serve, grace_s=None)


@app.command(
    epilog="Examples:\n  streamgauge demo\n  streamgauge demo --duration 30 --rate 200 --input reviews.csv --json"
)
def demo(  # noqa: PLR0913, PLR0917 - options of a command
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds to publish for; unset: until Ctrl-C.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Texts a second.")] = 50,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="csv, tsv, json, jsonl or txt instead of the sample.")
    ] = None,
    label_map: LabelMap = None,
    jars_dir: JarsDir = None,
    http_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of /metrics.")] = 8001,
    watch: Annotated[
        bool, typer.Option("--watch", help="With Prometheus, Alertmanager and Grafana, of those that are installed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Everything in one process tree: Kafka, worker, listener and a producer of labelled texts, with a live view."""
    from feedback_listener.settings import ListenerSettings
    from streamgauge.commands.demo import DemoOptions, labelled_texts, run_demo, web_page
    from streamgauge.commands.monitoring import find_programs
    from streamgauge.settings import KafkaSettings, TopicSettings, load
    from worker.service import load_model
    from worker.settings import WorkerSettings

    for section in (KafkaSettings, TopicSettings, ListenerSettings):
        load(section)  # so that what is wrong with them is said before Kafka starts
    programs = find_programs() if watch else None
    options = DemoOptions(duration, rate, input_file, label_map, jars_dir, http_port, as_json, programs)
    settings = load(WorkerSettings)
    model = load_model(settings)
    samples = labelled_texts(options, model.labels)
    page = web_page()
    run(lambda stop: run_demo(options, model, samples, page, stop), grace_s=None)
