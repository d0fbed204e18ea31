"""What `streamgauge audit` does: lists the audited predictions without a label, or asks a person for the labels.

Neither shows what the model says. Who knows an answer is drawn to it, and the audit would find the model better than it
is. An answer can be undone, so it is not shown afterwards either.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import msgspec
import typer
from rich.console import Console

from producer.publish import Publisher
from streamgauge.commands.audit_queue import Audited, read_unlabelled
from streamgauge.commands.audit_terminal import Step, Terminal, Way
from streamgauge.commands.audit_texts import Texts, text_reader
from streamgauge.commands.running import line_out
from streamgauge.errors import ConfigurationError, Stopped
from streamgauge.events import Feedback, Label
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import clock_ms, unless_stopped
from streamgauge.provisioning import check_exist
from streamgauge.rights import Rights, auditing, auditor, check_rights, named_rights
from streamgauge.settings import KafkaSettings, TopicSettings

Send = Callable[[str, str], Awaitable[None]]
"""Delivers the label of a message id."""


class Audit(NamedTuple):
    """What is to be labelled, the oldest first, and the reader of its texts."""

    unlabelled: list[Audited]
    texts: Texts

    @property
    def with_text(self) -> list[Audited]:
        """What can be labelled, as far as is known without reading the texts."""
        return [one for one in self.unlabelled if self.texts.has(one.source)]


def checked_source(source: str) -> str:
    """Who labels. Raises ConfigurationError when that cannot stand in a label."""
    try:
        return msgspec.convert(source, Label)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"--source: {error}") from None


@asynccontextmanager
async def _audit(
    kafka: KafkaSettings, topics: TopicSettings, needed: Rights, stop: asyncio.Event
) -> AsyncIterator[Audit]:
    """Raises ConfigurationError when a topic is missing, or one of the rights; Stopped when `stop` is set before."""
    async with admin_client(kafka, stop) as admin, named_rights(admin, needed):
        await check_rights(admin, needed)
        partitions = await check_exist(admin, [topics.audit, topics.feedback, topics.input], "Read")
        unlabelled = await unless_stopped(stop, read_unlabelled(kafka, topics, partitions, clock_ms()))
        async with text_reader(kafka, topics.input, partitions[topics.input]) as texts:
            yield Audit(unlabelled, texts)


async def list_unlabelled(kafka: KafkaSettings, topics: TopicSettings, limit: int | None, stop: asyncio.Event) -> None:
    """Print what is to be labelled, one JSON object a line. `limit`: of those that have a text."""
    listed = lost = 0
    async with _audit(kafka, topics, auditing(topics), stop) as audit:
        for one in audit.unlabelled:
            if listed == limit:
                break
            text = await audit.texts.at(one.source)
            if not line_out(json.dumps(as_json(one, text))):
                return
            listed, lost = listed + (text is not None), lost + (text is None and audit.texts.has(one.source))
        left = len(audit.with_text) - lost
        _sum_up(f"listed with a text: {listed}", left, len(audit.unlabelled) - left)


def as_json(one: Audited, text: str | None) -> dict[str, object]:
    """As it is listed; `text` is null when it is not retained any more."""
    at = datetime.fromtimestamp(one.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    source = {"topic": one.source.topic, "partition": one.source.partition, "offset": one.source.offset}
    model = msgspec.to_builtins(one.model)
    return {"id": one.id, "text": text, "classes": one.classes, "at": at, "source": source, "model": model}


async def ask_for_labels(
    kafka: KafkaSettings, topics: TopicSettings, source: str, limit: int | None, stop: asyncio.Event
) -> None:
    """Ask the person at the terminal for one label after another, each delivered before the next text is shown.

    Ends after the last one, when the person says so, or when `stop` is set; and says what was done, whatever happens.
    """
    terminal = Terminal(Console(highlight=False), sys.stdin.fileno())
    async with (
        _audit(kafka, topics, auditor(topics), stop) as audit,
        Publisher(kafka, topics, stop=stop) as publisher,
    ):
        with_text = audit.with_text
        way = Way(with_text[:limit])
        try:
            with suppress(Stopped):
                await _walk(way, audit.texts, terminal, partial(_send, publisher, source), stop)
        finally:
            left = len(with_text) - way.lost - len(way.labelled)
            _sum_up(f"labelled now: {len(way.labelled)}", left, len(audit.unlabelled) - len(with_text) + way.lost)


async def _walk(way: Way, texts: Texts, terminal: Terminal, send: Send, stop: asyncio.Event) -> None:
    """Raises Stopped between two labels when `stop` is set."""
    while one := way.current:
        text = await unless_stopped(stop, texts.at(one.source))
        if text is None:
            way.lose()
            continue
        asking = terminal.ask(one, text, left=way.left, now_ms=clock_ms())
        match await unless_stopped(stop, asking):
            case Step.QUIT:
                return
            case Step.SKIP:
                way.skip()
            case Step.UNDO:
                way.undo()
            case str(label):
                await send(one.id, label)
                way.answer()


async def _send(publisher: Publisher, source: str, message_id: str, label: str) -> None:
    await publisher.feedback(Feedback(id=message_id, label=label, source=source))
    await publisher.flush()


def _sum_up(done: str, left: int, without_text: int) -> None:
    gone = f"; the text is not retained any more: {without_text}" if without_text else ""
    typer.echo(f"{done}; still to be labelled: {left}{gone}", err=True)
