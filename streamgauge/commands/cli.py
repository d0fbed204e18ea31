"""The command line: the one place that knows all services, each imported only when its command runs."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings, load

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold users' texts
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Streaming sentiment inference on Kafka whose accuracy you can watch.",
)
topics_app = typer.Typer(no_args_is_help=True, help="Make the topics right, or show what is wrong with them.")
app.add_typer(topics_app, name="topics")

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap-servers", "-b", help="Kafka's host:port, several with commas.")
]
HttpPort = Annotated[int | None, typer.Option(help="Port of /metrics, /livez and /readyz.")]


def main(argv: list[str] | None = None) -> None:
    """Run a command, and end the process; errors of ours become one line and an exit code."""
    code: int | str | None = 0
    try:
        app(argv)
    except StreamgaugeError as error:
        code = error.exit_code
        if code:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the last word to the person at the terminal
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it waits for threads, and one that hangs in the model must not keep a process alive.
    os._exit(code if isinstance(code, int) else 0)


def _run(service: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, quiet: bool = False) -> None:
    """Run with logs set up; `quiet`: from warnings up, unless the environment says otherwise."""
    from streamgauge.lifecycle import run
    from streamgauge.telemetry import set_up_logging

    as_set = load(LogSettings)
    set_up_logging(as_set if "level" in as_set.model_fields_set or not quiet else load(LogSettings, level="warning"))
    run(service)


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

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    settings = load(WorkerSettings, group=group, start_from=start_from, model_dir=model_dir, http_port=http_port)
    _run(lambda stop: serve(kafka, topics, settings, stop))


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

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    settings = load(ListenerSettings, shard=shard, store=store, http_port=http_port)
    _run(lambda stop: serve(kafka, topics, settings, stop))


@app.command(
    epilog="Examples:  streamgauge reconcile   |   streamgauge reconcile --listener http://a:8002 --listener http://b:8002"
)
def reconcile(
    listener: Annotated[
        list[str] | None, typer.Option(help="Where a listener serves its metrics; default: http://localhost:8002.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Count the listeners' numbers anew from the topics, at the offsets and the time that they report, and compare.

    Exit code 0 only if all are equal. Holds the whole window in memory, some 500 bytes a record.
    """
    from feedback_listener.reconcile import report

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    urls = listener or ["http://localhost:8002"]

    async def compare(_stop: asyncio.Event) -> None:
        if not await report(kafka, topics, urls, as_json=as_json):
            raise StreamgaugeError("the numbers are not those that follow from the topics")

    _run(compare, quiet=True)


@app.command(
    epilog="Examples:  streamgauge produce 'what a lovely film'   |   streamgauge produce --file reviews.csv --rate 200"
    "   |   cat lines.txt | streamgauge produce"
)
def produce(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without texts and --file, lines of standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="csv, tsv, jsonl, or one text a line.")] = None,
    rate: Annotated[float | None, typer.Option(help="Texts a second; unset: as fast as it goes.")] = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish texts to the input topic. Texts given as arguments have their message ids printed, for feedback."""
    from producer.command import publish_texts

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    _run(lambda stop: publish_texts(kafka, topics, texts or [], file, rate, stop), quiet=True)


@app.command(
    epilog="Examples:  streamgauge feedback producer/4f1c POSITIVE --source anna"
    "   |   streamgauge feedback --file labels.csv"
)
def feedback(
    message_id: Annotated[str | None, typer.Argument(help="The id of a result.")] = None,
    label: Annotated[str | None, typer.Argument(help="The true class, such as POSITIVE.")] = None,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    file: Annotated[Path | None, typer.Option(help="csv, tsv or jsonl with id, label and perhaps source.")] = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Send one label, or a file of them, to the feedback topic. The last label for an id counts."""
    from producer.command import publish_labels

    if (file is None) == (message_id is None or label is None):
        raise ConfigurationError("give either a message id and a label, or --file")
    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    _run(lambda _stop: publish_labels(kafka, topics, file or (message_id or "", label or "", source)), quiet=True)


@topics_app.command(
    "create",
    epilog="Examples:  streamgauge topics create --partitions 12   |   streamgauge topics create --dry-run",
)
def create_topics(
    partitions: Annotated[int, typer.Option(min=1, help="At least so many partitions for every topic.")] = 4,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, help="Default: 3, or as many as there are brokers.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The workers' group, whose starting offset is committed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Create the topics, or bring them into the shape that the guarantees need, and start the workers' group at 0.

    Doing it again changes nothing. Partitions are never removed, nor are settings that are nobody's business here.
    """
    from streamgauge.topics import make_right
    from worker.settings import WorkerSettings

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    worker_group = load(WorkerSettings, group=group).group

    async def create(_stop: asyncio.Event) -> None:
        async for line in make_right(kafka, topics, worker_group, partitions, replication_factor, dry_run=dry_run):
            typer.echo(line)

    _run(create, quiet=True)


@app.command(epilog="Example:  streamgauge skip sentiment.input:3:41507")
def skip(
    position: Annotated[
        str, typer.Argument(metavar="TOPIC:PARTITION:OFFSET", help="The record that kills the workers.")
    ],
    group: Annotated[str | None, typer.Option(help="The workers' group.")] = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Get the workers past a record that kills their process: it becomes a dead letter, unscored.

    To find it, start one worker with STREAMGAUGE_LOG_LEVEL=debug, STREAMGAUGE_WORKER_MODEL_SLOTS=1 and
    STREAMGAUGE_WORKER_MAX_BATCH_TOKENS=8: the last line batch.scoring names it as PARTITION:OFFSET.
    """
    from worker.settings import WorkerSettings
    from worker.skip import skip as skip_record

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    worker_group = load(WorkerSettings, group=group).group
    _run(lambda _stop: skip_record(kafka, topics, worker_group, position), quiet=True)
    typer.echo(f"{position} will become a dead letter")


@app.command(
    epilog="Examples:  streamgauge replay --reason inference_failed --dry-run   |   streamgauge replay --reason skipped"
)
def replay(
    reason: Annotated[list[str], typer.Option(help="Which dead letters, by __connect.errors.exception.class.name.")],
    group: Annotated[str | None, typer.Option(help="The workers' group.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish dead letters back to where they came from, with their ids; each once, however often this is run."""
    from streamgauge.events import Reason
    from worker.replay import replay as replay_letters
    from worker.settings import WorkerSettings

    allowed = [known.value for known in Reason]
    if unknown := set(reason) - set(allowed):
        raise ConfigurationError(f"no such reason: {', '.join(unknown)}; there are {', '.join(allowed)}")
    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    worker_group = load(WorkerSettings, group=group).group

    async def publish(_stop: asyncio.Event) -> None:
        reasons = [Reason(name) for name in reason]
        async for name, count in replay_letters(kafka, topics, worker_group, reasons, dry_run=dry_run):
            typer.echo(f"{'would replay' if dry_run else 'replayed'} {count} dead letters: {name}")

    _run(publish, quiet=True)


@app.command(
    epilog="Examples:  streamgauge export distilbert/distilbert-base-uncased-finetuned-sst-2-english --output sst2"
    "   |   streamgauge export ./checkpoint --output model --quantize none --optimize O2"
)
def export(  # noqa: PLR0913, PLR0917 - options of a command
    source: Annotated[str, typer.Argument(metavar="MODEL_ID_OR_DIR", help="A hub's id, or a checkpoint's directory.")],
    output: Annotated[Path, typer.Option(help="The model directory to write; it must not exist.")],
    quantize: Annotated[str, typer.Option(help="int8-rows, or none (fp32).")] = "int8-rows",
    opset: Annotated[int | None, typer.Option(min=17, help="Of the fp32 graph; default: optimum's.")] = None,
    optimize: Annotated[str | None, typer.Option(help="optimum's O1, O2 or O3, with --quantize none.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the last part of the source.")] = None,
    version: Annotated[str | None, typer.Option(help="Default: the head of the digest.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="SPDX id; default: as the source says.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="csv, tsv or jsonl with text and label: measures, writes a reference profile.")
    ] = None,
    max_difference: Annotated[
        float | None, typer.Option(min=0, help="Allowed to a probability of PyTorch's; default: 0.001, int8-rows 0.15.")
    ] = None,
) -> None:
    """Make a model directory of any DistilBERT sequence classifier. Needs the extra `export`, with PyTorch."""
    import signal

    from worker.model_making.export import Options
    from worker.model_making.export import export as export_model

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that nothing half-written stays
    options = Options(quantize, opset, optimize, name, version, licence, max_difference, data)
    export_model(source, output, options, typer.echo)


@app.command(epilog="Examples:  streamgauge inspect   |   streamgauge inspect ./model --json")
def inspect(
    directory: Annotated[Path | None, typer.Argument(help="Default: the model that comes along.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what a model is, check that it is still what was exported, and time it. Exit code 1 if it is not."""
    import msgspec

    from worker.model_making.inspection import inspect as inspect_model
    from worker.model_making.inspection import lines
    from worker.settings import WorkerSettings

    report = inspect_model(directory or load(WorkerSettings).model_dir)
    typer.echo(msgspec.json.encode(report).decode() if as_json else "\n".join(lines(report)))
    if not report.sound:
        raise StreamgaugeError("the files are not what was exported, or this CPU computes them wrongly")


@app.command(epilog="Examples:  streamgauge broker   |   streamgauge broker --data-dir ./kafka --port 9092")
def broker(
    data_dir: Annotated[Path | None, typer.Option(help="Kept between starts; unset: thrown away at the end.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 9092,
    jars_dir: Annotated[
        Path | None, typer.Option(help="A folder that holds Kafka's jars, for machines without a network.")
    ] = None,
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

    _run(serve, quiet=True)


@app.command(
    epilog="Examples:  streamgauge demo   |   streamgauge demo --duration 30 --rate 200 --input reviews.csv --json"
)
def demo(
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds to publish for; unset: until Ctrl-C.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Texts a second.")] = 50,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="csv, tsv, jsonl or txt instead of the sample.")
    ] = None,
    jars_dir: Annotated[
        Path | None, typer.Option(help="A folder that holds Kafka's jars, for machines without a network.")
    ] = None,
    http_port: Annotated[int, typer.Option(help="Port of /metrics.")] = 8001,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Everything in one process tree: Kafka, worker, listener and a producer of labelled texts, with a live view."""
    from streamgauge.commands.demo import DemoOptions, run_demo

    options = DemoOptions(duration, rate, input_file, jars_dir, http_port, as_json)
    _run(lambda stop: run_demo(options, stop), quiet=True)


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: rows by name.")] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Throughput and latency of the past, as a table, from the metrics topic alone."""
    from streamgauge.commands import stats as module
    from streamgauge.commands.reading import moment_ms, seconds
    from streamgauge.lifecycle import clock_ms

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    since_ms, collected = moment_ms(since, clock_ms()), module.Stats(by, seconds(every))
    _run(lambda stop: module.collect(kafka, topics, since_ms, collected, stop), quiet=True)
    rows = collected.rows()
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        module.show(rows)
    else:
        typer.echo(f"no transaction since {since}", err=True)


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
    from streamgauge.lifecycle import clock_ms

    kafka, topics = load(KafkaSettings, bootstrap_servers=bootstrap_servers), load(TopicSettings)
    topic, line_of = {
        "results": (topics.results, lambda record: module.result_line(record.value)),
        "metrics": (topics.metrics, lambda record: module.metric_line(record.value)),
        "dead-letters": (topics.dead_letter, lambda record: module.dead_letter_line(record, with_value=values)),
    }[what]
    since_ms = moment_ms(since, clock_ms()) if since else None
    _run(lambda stop: module.tail(kafka, topic, since_ms, line_of, stop), quiet=True)
