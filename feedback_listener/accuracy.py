"""`streamgauge accuracy`: how right each model is, from a listener's numbers; without one, counted from the topics."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from aiokafka.structs import TopicPartition
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feedback_listener.audit import Terms
from feedback_listener.join import WINDOWS
from feedback_listener.moment import Share, models_of, sequence, shares, time_text
from feedback_listener.reconcile import read_metrics, scrape
from feedback_listener.recount import recount
from feedback_listener.recount_reading import matters_since_ms, records_before
from feedback_listener.recount_records import Values
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client, answered
from streamgauge.lifecycle import clock_ms
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import cell, harmless
from streamgauge.topic_reading import topic_reader

PREDICTIONS = {"labels": "streamgauge_predictions", "audit": "streamgauge_audit_predictions"}
"""By what `shares` calls them: of how many predictions the judged ones are."""
MEANING = {"labels": "all", "audit": "audit"}


class Numbers(NamedTuple):
    """What a listener exports, or would export, and where it is from."""

    source: str
    at_ms: int
    values: Values


async def from_listeners(urls: Sequence[str]) -> Numbers:
    """Of the listeners of all shards; of two that export the same series the larger, as the recording rules have it.

    Raises StreamgaugeError when one does not answer, is none, or is not ready.
    """
    shown = [read_metrics(url, await scrape(url)) for url in urls]
    values: Values = {}
    for scraped in shown:
        values |= {series: max(value, values.get(series, value)) for series, value in scraped.numbers.items()}
    return Numbers(f"the listener at {' and '.join(urls)}", min(scraped.now_ms for scraped in shown), values)


async def from_topics(kafka: KafkaSettings, topics: TopicSettings, terms: Terms) -> Numbers:
    """What a listener would export that had read all partitions. Holds the window, some 500 bytes a record."""
    async with admin_client(kafka) as admin:
        found = await check_exist(admin, topics.joined, "Read")
    partitions = [TopicPartition(name, number) for name, count in found.items() for number in range(count)]
    now_ms = clock_ms()
    async with topic_reader(kafka) as consumer:
        ends = await answered(kafka, consumer.end_offsets(partitions), "ends were asked for")
        records = await records_before(kafka, consumer, topics, ends, matters_since_ms(now_ms, terms.window_ms))
    return Numbers("the topics", now_ms, recount(records, now_ms, terms))


def predictions(values: Values, model: str, window: str, name: str) -> int:
    """How many there are of a model in a window, judged or not; `name`: of the series that counts them."""
    own = {("model", model), ("window", window)}
    return int(sum(n for (its_name, labels), n in values.items() if its_name == name and own <= set(labels)))


def as_json(numbers: Numbers) -> dict[str, Any]:
    """By model and window; `wilson` is the interval of one look, `confidence_sequence` that of all looks together."""
    return {
        "source": numbers.source,
        "at": time_text(numbers.at_ms),
        "models": {
            model: {
                "accuracy": {window: _window_as_json(numbers.values, model, window) for window in WINDOWS},
                "confidence_sequence": sequence(numbers.values, model),
            }
            for model in models_of(numbers.values)
        },
    }


def _window_as_json(values: Values, model: str, window: str) -> dict[str, Any]:
    return {
        kind: {
            "accuracy": share.right / share.judged if share.judged else None,
            **share._asdict(),
            "predictions": predictions(values, model, window, PREDICTIONS[kind]),
            "wilson": share.interval,
        }
        for kind, share in shares(values, model, window).items()
    }


async def report_accuracy(
    kafka: KafkaSettings,
    topics: TopicSettings,
    terms: Terms,
    urls: Sequence[str],
    *,
    is_json: bool,
    or_topics: bool,
) -> None:
    """Print it as tables, or as one JSON object. `or_topics`: count from the topics where no listener can be asked."""
    try:
        numbers = await from_listeners(urls)
    except StreamgaugeError as error:
        if not or_topics:
            raise
        typer.echo(harmless(f"{error}; counting from the topics"), err=True)
        numbers = await from_topics(kafka, topics, terms)
    if is_json:
        typer.echo(json.dumps(as_json(numbers)))
    else:
        _print(numbers)


def _print(numbers: Numbers) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(cell(f"from {numbers.source}, {time_text(numbers.at_ms)}"))
    models = models_of(numbers.values)
    if not models:
        console.print("there is no prediction yet")
    for model in models:
        console.print(Text.assemble("\n", cell(model)))
        console.print(_table(numbers.values, model))
        if interval := sequence(numbers.values, model):
            console.print(f"audit, however often one looks: {interval.low:.1%} to {interval.high:.1%}")
        if not shares(numbers.values, model, WINDOWS[-1])["labels"].judged:
            console.print("no label yet: streamgauge feedback ID LABEL, or streamgauge audit")


def _table(values: Values, model: str) -> Table:
    table = Table("window", "labels", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("accuracy", "95 % interval", "right", "labelled", "predictions"):
        table.add_column(name, justify="right")
    for window in WINDOWS:
        for kind, share in shares(values, model, window).items():
            n = predictions(values, model, window, PREDICTIONS[kind])
            table.add_row(window, MEANING[kind], *_share(share), str(share.right), str(share.judged), str(n))
    return table


def _share(share: Share) -> tuple[str, str]:
    if not share.interval:
        return "-", "-"
    return f"{share.right / share.judged:.1%}", f"{share.interval.low:.1%} to {share.interval.high:.1%}"
