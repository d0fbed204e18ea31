"""What puts records into the topics: `produce` texts, `feedback` labels."""

from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Bootstrap, LabelMap, line_out, run_on_kafka
from streamgauge.settings import TopicSettings, load

app = typer.Typer()

GRACE_S = 5.0
"""After a signal, to say how much was sent: longer than the publisher waits for what is on its way."""
TABLES = "csv, tsv, json or jsonl, also .gz"


@app.command(
    epilog="Examples:  streamgauge produce 'what a lovely film'   |   streamgauge produce --file reviews.csv --rate 200"
    "   |   cat lines.txt | streamgauge produce"
)
def produce(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without texts and --file, lines of standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help=f"{TABLES}, with text and perhaps id; or txt, one text a line.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Texts a second; unset: as fast as it goes.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many texts: an earlier run has sent them.")] = 0,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish texts to the input topic. Texts given as arguments have their message ids printed, for feedback.

    A file is read as a whole before the first text is sent: if anything is wrong in it, nothing is sent. Its column
    `id` names the results; rows without one get ids that `feedback --file` finds again in the same file.
    """
    from producer.command import given_texts, publish_texts
    from producer.pacing import Pace

    pace, given = Pace(rate), given_texts(texts or [], file, skip, load(TopicSettings).max_message_bytes)
    tell = line_out if texts else None
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: publish_texts(kafka, topics, given, pace, tell, stop),
        grace_s=GRACE_S,
    )


@app.command(
    epilog="Examples:  streamgauge feedback producer/4f1c POSITIVE --source anna"
    "   |   streamgauge feedback --file labels.csv --label-map 1=POSITIVE,0=NEGATIVE"
)
def feedback(
    message_id: Annotated[str | None, typer.Argument(help="The id of a result.")] = None,
    label: Annotated[str | None, typer.Argument(help="The true class, such as POSITIVE.")] = None,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help=f"{TABLES}, with label, with id or the texts that were produced, and perhaps source."),
    ] = None,
    label_map: LabelMap = None,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Send one label, or a file of them, to the feedback topic. The last label for an id counts.

    Labels are classes of the model, as the latest results name them. Upper and lower case are the same where only one
    class can be meant; numbers stand for the classes where all of them are there. If one fits no class, none is sent.
    """
    from producer.command import given_labels, publish_labels
    from streamgauge.labels import read_map

    meant, given = read_map(label_map), given_labels(message_id, label, source, file)
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: publish_labels(kafka, topics, given, meant, stop),
        grace_s=GRACE_S,
    )
