"""What puts records into the topics: `produce` texts, `feedback` labels."""

from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Bootstrap, run_on_kafka
from streamgauge.errors import ConfigurationError

app = typer.Typer()


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

    run_on_kafka(
        bootstrap_servers, lambda kafka, topics, stop: publish_texts(kafka, topics, texts or [], file, rate, stop)
    )


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
    labels = file or (message_id or "", label or "", source)
    run_on_kafka(bootstrap_servers, lambda kafka, topics, _stop: publish_labels(kafka, topics, labels))
