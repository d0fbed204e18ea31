"""What `streamgauge produce` and `streamgauge feedback` do: check, publish, and say what was sent and what was not."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from producer.corpus import MADE_BY, Corpus, Sample, arguments, standard_input
from producer.effect import explained, result_of
from producer.latest import latest_classes
from producer.pacing import Pace
from producer.publish import Publisher, publish
from streamgauge.errors import ConfigurationError, Stopped, StreamgaugeError
from streamgauge.events import Feedback, decode_feedback, encode
from streamgauge.labels import Meaning, meaning, refusal
from streamgauge.lifecycle import clock_ms
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import counted, harmless

STOP_PATIENCE_S = 2.0
"""How long Kafka may take to acknowledge what is on its way after a signal."""

PLACEHOLDER = re.compile(r"(.*/)?(…|\.\.\.)|<.*>")
ID_OF_OURS = re.compile(rf"{MADE_BY}/\S+|\S+-\d+-\d+")
"""As `produce` makes them, or a worker of a record's position."""

Tell = Callable[[str], bool]
"""Says a line on standard output; False: nobody listens any more."""


class Texts(NamedTuple):
    """What `produce` is to publish. It has been checked as a whole, where that was possible."""

    samples: Iterable[Sample]
    total: int | None
    """With those that are skipped; None: nobody knows before standard input ends."""
    skipped: int
    without_text: int = 0


def given_texts(texts: list[str], file: Path | None, skip: int, max_record_bytes: int) -> Texts:
    """Arguments, a file, or standard input, without the first `skip` texts. Raises ConfigurationError."""
    if texts and file:
        raise ConfigurationError("give either texts or --file")
    if file:
        corpus = Corpus.of_texts(file, max_record_bytes)
        given = Texts(corpus.samples(), corpus.texts, skip, corpus.without_text)
    elif texts:
        given = Texts(arguments(texts, max_record_bytes), len(texts), skip)
    else:
        given = Texts(standard_input(max_record_bytes), None, skip)
    if given.total is not None and skip >= given.total:
        raise ConfigurationError(f"--skip {skip}: there are {given.total} texts, so nothing is left")
    return given._replace(samples=islice(given.samples, skip, None))


async def publish_texts(
    kafka: KafkaSettings, topics: TopicSettings, given: Texts, pace: Pace, tell: Tell | None, stop: asyncio.Event
) -> None:
    """Publish texts; `tell`: their ids. Raises StreamgaugeError, which says what was sent, unless it was all."""
    why = "stopped"

    def on_sent(_sample: Sample, message_id: str) -> None:
        nonlocal why
        advance()
        if tell and not stop.is_set() and not tell(message_id):
            why = "nobody reads the message ids any more"
            stop.set()

    def so_far(publisher: Publisher) -> str:
        total = "" if given.total is None else f" of {given.total - given.skipped}"
        again = publisher.delivered - publisher.delivered_from_start
        twice = f" ({again} of them come twice then)" if again else ""
        go_on = f"to go on there, add: --skip {given.skipped + publisher.delivered_from_start}{twice}"
        return f"published {publisher.delivered}{total} texts to {topics.input}; {go_on}"

    async with _publisher(kafka, topics, stop, so_far) as publisher:
        # Ids go to standard output, which may be the same terminal.
        with _progress(is_shown=tell is None) as advance:
            sent = await publish(publisher.text, given.samples, pace, stop, on_sent)
            await publisher.flush()
        if stop.is_set() and sent + given.skipped != given.total:
            raise _Incomplete(why)
    if not sent:
        raise ConfigurationError("there was no text on standard input")
    rows = f"; rows without one: {given.without_text}" if given.without_text else ""
    typer.echo(f"published {counted(sent, 'text')} to {topics.input}{rows}", err=True)


def given_labels(message_id: str | None, label: str | None, source: str | None, file: Path | None) -> Corpus | Feedback:
    """One label or a file of them. Raises ConfigurationError."""
    if (file is None) == (message_id is None or label is None):
        raise ConfigurationError("give either a message id and a label, or --file")
    if file:
        return Corpus.of_labels(file)
    _check_arguments(message_id or "", label or "")
    try:
        one = Feedback(id=message_id or "", label=(label or "").strip(), source=source)
        return decode_feedback(encode(one))
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"not a label that can be sent: {error}") from None


def _check_arguments(message_id: str, label: str) -> None:
    """Raises ConfigurationError for the two ways in which an id is not meant."""
    if PLACEHOLDER.fullmatch(message_id):
        raise ConfigurationError(f"{message_id} stands for an id, such as `streamgauge produce TEXT` prints")
    if ID_OF_OURS.fullmatch(label) and not ID_OF_OURS.fullmatch(message_id):
        raise _swapped(message_id, label)


def _swapped(message_id: str, label: str) -> ConfigurationError:
    return ConfigurationError(f"the id comes first, then the label: streamgauge feedback {label} {message_id}")


async def publish_labels(
    kafka: KafkaSettings,
    topics: TopicSettings,
    given: Corpus | Feedback,
    meant: Mapping[str, str],
    stop: asyncio.Event,
) -> None:
    """Send one label or a file of them, under the names that the model's classes have.

    Raises StreamgaugeError, and sends nothing, when a label fits no class of the latest results; and when not all was
    sent, which it says.
    """
    counts = given.labels if isinstance(given, Corpus) else {given.label: 1}

    def so_far(publisher: Publisher) -> str:
        labels = counted(publisher.delivered, "label")
        return f"sent {labels} to {topics.feedback}; all may be sent again: an equal label is no harm"

    async with _publisher(kafka, topics, stop, so_far) as publisher:
        models = await latest_classes(kafka, topics.results)
        fit = meaning(counts, models, meant)
        if fit.misfits:
            if isinstance(given, Feedback) and given.id in {name for classes in models for name in classes}:
                raise _swapped(given.id, given.label)
            where = str(given.path) if isinstance(given, Corpus) else given.id
            raise StreamgaugeError(refusal(where, counts, fit.misfits, models))
        with _progress() as advance:
            sent = await publish(publisher.feedback, _feedback(given, fit), Pace(None), stop, lambda *_sent: advance())
            await publisher.flush()
        left_out = sum(counts[label] for label, name in fit.of.items() if name is None)
        if sent + left_out < sum(counts.values()):
            raise _Incomplete("stopped")
    notes = [f"{left_out} left out"] if left_out else []
    if isinstance(given, Corpus) and given.without_label:
        notes.append(f"rows without one: {given.without_label}")
    if not models:
        notes.append("no result could be read that says whether they fit the model's classes")
    typer.echo("; ".join([f"sent {counted(sent, 'label')} to {topics.feedback}", *notes]), err=True)
    if isinstance(given, Feedback):
        for one in _feedback(given, fit):
            await _tell_effect(kafka, topics, one)


async def _tell_effect(kafka: KafkaSettings, topics: TopicSettings, label: Feedback) -> None:
    """What the label did, where results can be read."""
    if found := await result_of(kafka, topics, label.id):
        typer.echo(harmless(explained(label, found, clock_ms(), topics.join_window_ms)), err=True)


def _feedback(given: Corpus | Feedback, fit: Meaning) -> Iterator[Feedback]:
    for one in given.feedback() if isinstance(given, Corpus) else [given]:
        if name := fit.of.get(one.label):
            yield Feedback(id=one.id, label=name, source=one.source)


class _Incomplete(Exception):  # noqa: N818 - why the work ended before its input did
    """Becomes a StreamgaugeError that says how far it came."""


@asynccontextmanager
async def _publisher(
    kafka: KafkaSettings, topics: TopicSettings, stop: asyncio.Event, so_far: Callable[[Publisher], str]
) -> AsyncIterator[Publisher]:
    """A publisher for a body that delivers all, or raises an error: that one then says how much is delivered.

    Once `stop` is set the body has STOP_PATIENCE_S to end.
    """
    try:
        async with Publisher(kafka, topics, stop=stop) as publisher:
            try:
                async with _soon_after(stop):
                    yield publisher
            except TimeoutError:
                raise StreamgaugeError(f"stopped; {so_far(publisher)}") from None
            except _Incomplete as why:
                raise StreamgaugeError(f"{why}; {so_far(publisher)}") from None
            except StreamgaugeError as error:
                if isinstance(error, ConfigurationError):
                    await publisher.flush()  # what came before the fault in the input
                if not publisher.delivered:
                    raise
                raise StreamgaugeError(f"{error}\n{so_far(publisher)}") from error
    except Stopped:
        raise StreamgaugeError("stopped before Kafka was reached; nothing was sent") from None


@asynccontextmanager
async def _soon_after(stop: asyncio.Event) -> AsyncIterator[None]:
    """Raises TimeoutError when its body goes on for STOP_PATIENCE_S after `stop` is set."""

    async def end(limit: asyncio.Timeout) -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + STOP_PATIENCE_S)

    async with asyncio.timeout(None) as limit:
        ending = asyncio.create_task(end(limit), name="end-soon-after-stop")
        try:
            yield
        finally:
            ending.cancel()


@contextmanager
def _progress(*, is_shown: bool = True) -> Iterator[Callable[[], None]]:
    """A counter on a terminal, nothing in a pipe."""
    console = Console(stderr=True)
    is_shown = is_shown and console.is_terminal
    columns = SpinnerColumn(), MofNCompleteColumn(), TextColumn("sent"), TimeElapsedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not (is_shown and console.is_terminal)
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda: progress.advance(task)
