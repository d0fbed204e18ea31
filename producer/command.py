"""What `streamgauge produce` and `streamgauge feedback` do: read, publish, show how far it is."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from producer.corpus import Sample, lines, normalise_label, read, read_feedback
from producer.pacing import Pace
from producer.publish import Publisher, publish
from streamgauge.events import Feedback
from streamgauge.settings import KafkaSettings, TopicSettings


async def publish_texts(
    kafka: KafkaSettings,
    topics: TopicSettings,
    texts: list[str],
    file: Path | None,
    rate: float | None,
    stop: asyncio.Event,
) -> None:
    """Publish arguments, a file, or standard input; the ids of arguments go to standard output."""
    pace = Pace(rate)
    async with Publisher(kafka, topics) as publisher:
        with _progress() as advance:

            def on_sent(_sample: Sample, message_id: str) -> None:
                advance()
                if texts:
                    typer.echo(message_id)

            published = await publish(publisher, _samples(texts, file), pace, stop, on_sent)
    typer.echo(f"published {published} texts to {topics.input}", err=True)


def _samples(texts: list[str], file: Path | None) -> Iterable[Sample]:
    if texts:
        return [Sample(text) for text in texts]
    return read(file) if file else _standard_input()


def _standard_input() -> Iterator[Sample]:
    with open(0, encoding="utf-8", closefd=False) as stream:
        yield from lines(stream)


async def publish_labels(
    kafka: KafkaSettings, topics: TopicSettings, labels: Path | tuple[str, str, str | None]
) -> None:
    """Send one label (id, label, source) or a file of them."""
    given = (
        read_feedback(labels)
        if isinstance(labels, Path)
        else iter([Feedback(id=labels[0], label=normalise_label(labels[1]) or "", source=labels[2])])
    )
    async with Publisher(kafka, topics) as publisher:
        with _progress() as advance:
            for feedback in given:
                await publisher.feedback(feedback)
                advance()
        await publisher.flush()
    typer.echo(f"sent {publisher.delivered} labels to {topics.feedback}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[], None]]:
    """A counter on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), MofNCompleteColumn(), TextColumn("sent"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda: progress.advance(task)
