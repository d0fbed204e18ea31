"""Asks the services of this machine whether they are well, as a health check does; nothing here needs Kafka."""

from http.client import HTTPConnection, HTTPException
from typing import Literal

from feedback_listener.settings import ListenerSettings
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.settings import ServiceSettings, load
from worker.settings import WorkerSettings

Name = Literal["worker", "listener"]

MAX_TIMEOUT_S = 3600
SERVICES: dict[Name, type[ServiceSettings]] = {"worker": WorkerSettings, "listener": ListenerSettings}


def answers(only: Name | None, path: str, timeout_s: float) -> dict[Name, str]:
    """What the services say, by name; `only` None: those that listen on their configured port.

    Raises StreamgaugeError when one says that it is not well, or when nobody answers; ConfigurationError for a timeout
    that no socket takes.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S:  # nor NaN
        raise ConfigurationError(f"--timeout-s must be above 0, at most {MAX_TIMEOUT_S}")
    asked = {name: load(settings) for name, settings in SERVICES.items() if only in {None, name}}
    found = {name: _ask(settings, path, timeout_s) for name, settings in asked.items()}
    problems = [f"{name}: {text}" for name, (status, text) in found.items() if status not in {None, 200}]
    if problems:
        raise StreamgaugeError("; ".join(problems))
    well = {name: text for name, (status, text) in found.items() if status == 200}
    if not well:
        ports = ", ".join(f"{name} on port {settings.http_port}" for name, settings in asked.items())
        raise StreamgaugeError(f"nobody answers: {ports}")
    return well


def _ask(settings: ServiceSettings, path: str, timeout_s: float) -> tuple[int | None, str]:
    """Status and text; without a status when nobody listens there."""
    connection = HTTPConnection(local_address(settings), settings.http_port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace").strip()
    except ConnectionRefusedError:
        return None, ""
    except (OSError, HTTPException) as error:
        return 0, f"no answer to {path}: {error}"
    finally:
        connection.close()


def local_address(settings: ServiceSettings) -> str:
    """Where a service that listens as it is set is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104 - not bound
