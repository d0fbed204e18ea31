"""Serves the page: Streamlit on our own event loop, beside the Kafka clients that all sessions share."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import streamlit as st
import structlog
import uvicorn
from streamlit.starlette import App
from streamlit.web.bootstrap import load_config_options

from streamgauge.commands.page.desk import Desk, open_desk
from streamgauge.commands.page.room import Room
from streamgauge.commands.page.settings import ANOTHER_PORT, AppSettings
from streamgauge.commands.page.tailing import topic_partitions
from streamgauge.http import named_port
from streamgauge.lifecycle import unless_stopped
from streamgauge.settings import KafkaSettings, TopicSettings

log = structlog.get_logger(__name__)

CLOSE_S = 2
"""For open connections, at the end."""
OPTIONS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    # Its lines could hold a text; what goes wrong in a view, `_note` says.
    "logger.level": "critical",
    "logger.enableRich": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    # White is read on it. By scheme: a colour for both would end that the page follows the system's.
    "theme.light.primaryColor": "#2563eb",
    "theme.dark.primaryColor": "#2563eb",
}
"""Of Streamlit."""


class Server(uvicorn.Server):
    """uvicorn's, which leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    kafka: KafkaSettings,
    topics: TopicSettings,
    settings: AppSettings,
    stop: asyncio.Event,
    say: Callable[[str], None],
) -> None:
    """Serve until `stop` is set; `say` is told the address.

    Raises StreamgaugeError when no broker answers or the port is taken, ConfigurationError when topics or rights are
    missing.
    """
    await unless_stopped(stop, topic_partitions(kafka, topics, stop))
    with _listening(settings) as listening:
        port = listening.getsockname()[1]
        load_config_options(OPTIONS | {"server.address": settings.http_host, "server.port": port})
        room = Room(kafka, topics, settings)
        open_desk(Desk(room, asyncio.get_running_loop()))
        app = App(Path(str(files(__package__) / "script.py")), on_script_error=_note)
        server = Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=CLOSE_S, lifespan="on")
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(room.run(stop), name="room")
            tasks.create_task(server.serve(sockets=[listening]), name="http")
            host = "localhost" if settings.http_host in {"127.0.0.1", "0.0.0.0"} else settings.http_host  # noqa: S104
            say(f"http://{host}:{port}")
            await stop.wait()
            server.should_exit = True


@contextmanager
def _listening(settings: AppSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    address = settings.http_host, settings.http_port
    with named_port("the page", *address, ANOTHER_PORT):
        listening = socket.create_server(address, family=family)
    with listening:
        yield listening


def _note(error: Exception) -> bool:
    """Where a view went wrong, and as what: its message may hold a text."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else "?"
    log.error("page.failed", error=type(error).__name__, where=where)
    st.error("Something went wrong in this page. Its log says where.", icon=":material/error:")
    return True
