"""What puts records into the topics: `produce` texts, `feedback` labels; `audit` asks a person for them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Bootstrap, LabelMap, line_out, run_on_kafka
from streamgauge.errors import ConfigurationError

app = typer.Typer()

GRACE_S = 5.0
"""After a signal, to say how much was sent: longer than the publisher waits for what is on its way."""
TABLES = "csv, tsv, json or jsonl, also .gz"


@app.command(
    epilog="Examples:\n  streamgauge produce --wait 'what a lovely film'\n  "
    "streamgauge produce --file reviews.csv --rate 200"
    "\n  cat lines.txt | streamgauge produce"
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
    wait: Annotated[
        bool, typer.Option("--wait", help="Of texts given as arguments: wait for label and score, and print them.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=86_400, help="How long --wait waits at most.")] = 30,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Publish texts to the input topic. Texts given as arguments have their message ids printed, for feedback, each
    alone on its line.

    A file is read as a whole before the first text is sent: if anything is wrong in it, nothing is sent. Its column
    `id` names the results; rows without one get ids that `feedback --file` finds again in the same file.
    """
    from producer.command import given_texts, publish_texts
    from producer.pacing import Pace
    from streamgauge.settings import TopicSettings, load

    if wait and not texts:
        raise ConfigurationError("--wait is for texts that are given as arguments")
    pace, given = Pace(rate), given_texts(texts or [], file, skip, load(TopicSettings).max_message_bytes)
    tell = line_out if texts else None
    if wait:
        from producer.awaiting import publish_and_wait

        run_on_kafka(
            bootstrap_servers,
            lambda kafka, topics, stop: publish_and_wait(kafka, topics, given, pace, line_out, timeout_s, stop),
            grace_s=GRACE_S,
        )
        return
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: publish_texts(kafka, topics, given, pace, tell, stop),
        grace_s=GRACE_S,
    )


@app.command(
    epilog="Examples:\n  streamgauge feedback producer/4f1c POSITIVE --source anna"
    "\n  streamgauge feedback --file labels.csv --label-map 1=POSITIVE,0=NEGATIVE"
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


@app.command(
    epilog="Examples:\n  streamgauge audit --source anna\n  streamgauge audit --json --limit 100 > texts.jsonl"
)
def audit(
    source: Annotated[str, typer.Option(help="Who labels.")] = "audit",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many texts.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Ask nothing, list what is to be labelled: a JSON object a line.")
    ] = False,
    bootstrap_servers: Bootstrap = None,
) -> None:
    """Label the predictions that were chosen by chance for the audit, the oldest first, one key a text.

    What the model says is not shown: it would sway you. Each label is delivered before the next text comes; an undone
    one stands until you give another. Where input or output is no terminal, they are listed as by --json, and
    `feedback` takes the labels. Holds them in memory, some 500 bytes each; of the texts one.
    """
    from streamgauge.commands import audit as module

    who = module.checked_source(source)
    is_terminal = all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if as_json or not is_terminal:
        run_on_kafka(bootstrap_servers, lambda kafka, topics, stop: module.list_unlabelled(kafka, topics, limit, stop))
        return
    run_on_kafka(
        bootstrap_servers,
        lambda kafka, topics, stop: module.ask_for_labels(kafka, topics, who, limit, stop),
        grace_s=None,
    )
