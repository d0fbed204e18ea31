"""`streamgauge top` from its first question to its end."""

import asyncio
import logging
import sys
import time

import typer
from rich.console import Console

from streamgauge.commands.keyboard import keys, typed
from streamgauge.commands.top.screen import Screen
from streamgauge.commands.top.watching import Sources, Watch
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client, sleep_or_stop
from streamgauge.lifecycle import unless_stopped
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import harmless

TICK_S = 0.1


async def run_top(
    kafka: KafkaSettings, topics: TopicSettings, group: str, sources: Sources, stop: asyncio.Event
) -> None:
    """Show the stack until `stop` is set, `q` is typed, or nobody reads standard output any more.

    Texts are shown on a terminal alone: lines in a pipe are often kept. Raises StreamgaugeError when nobody answers at
    the start, neither a broker nor a replica.
    """
    screen = Screen(Console(highlight=False), f"Streamgauge, {kafka.bootstrap_servers}", "q ends", is_whole=True)
    watch = Watch(kafka, topics, group, sources._replace(with_texts=sources.with_texts and screen.is_live))
    if not await unless_stopped(stop, watch.look()):
        await _reach_kafka(kafka, watch, stop)
    logging.disable()  # pictures say what is wrong, and lines of logs would break a screen
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(watch.run(), name="watch")]
        if screen.is_live and sys.stdin.isatty():
            working.append(tasks.create_task(_until_q(stop), name="keyboard"))
        with screen.running():
            while not stop.is_set() and screen.update(lambda: watch.known.picture(time.monotonic(), {})):
                await sleep_or_stop(stop, TICK_S)
        for task in working:
            task.cancel()


async def _reach_kafka(kafka: KafkaSettings, watch: Watch, stop: asyncio.Event) -> None:
    try:
        async with admin_client(kafka, stop):
            pass
    except StreamgaugeError:
        for what, why in watch.known.problems.items():
            typer.echo(harmless(f"{what}: {why}"), err=True)
        raise


async def _until_q(stop: asyncio.Event) -> None:
    keyboard = sys.stdin.fileno()
    with keys(keyboard, is_single=True):
        while came := await typed(keyboard):
            if b"q" in came.lower() or b"\x04" in came:  # Ctrl-D
                break
    stop.set()
