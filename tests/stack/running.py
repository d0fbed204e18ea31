"""Prometheus, Alertmanager and what they watch as processes, with the project's own configuration.

Changed for a test: addresses, intervals of seconds, and the durations for which alerts wait.
"""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.cluster import ROOT

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
INTERVAL = "1s"
PENDING = "3s"
AGO = "20s"
"""How long ago there were more workers."""


@contextmanager
def process(
    command: Sequence[str | Path], log: Path, sign: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that has said `sign`, a pattern, and what its group matched; killed at the end."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
    try:
        while not (said := re.search(sign, log.read_text())):
            assert running.poll() is None, f"{command[0]} has ended:\n{log.read_text()}"
            time.sleep(0.05)
        yield running, said[1]
    finally:
        running.kill()
        running.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alertmanager_config(folder: Path, receiver_port: int, mail_port: int) -> Path:
    """The stack's, with other addresses, files in `folder`, and groups that wait a second instead of ten."""
    (folder / "slack-url").write_text(f"http://127.0.0.1:{receiver_port}/slack")
    (folder / "smtp-password").write_text("none")
    text = (ROOT / "infra" / "alertmanager" / "alertmanager.yml").read_text()
    for old, new in (
        ("alert-receiver:9094", f"127.0.0.1:{receiver_port}"),
        ("mail:1025", f"127.0.0.1:{mail_port}"),
        ("/run/secrets", str(folder)),
        ("group_wait: 10s", "group_wait: 1s"),
        ("group_interval: 1m", "group_interval: 2s"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = folder / "alertmanager.yml"
    path.write_text(text)
    return path


def prometheus_config(folder: Path, alertmanager_port: int, port: int) -> Path:
    """The stack's, with targets from files that the test writes, and rules whose alerts wait for seconds."""
    config = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], INTERVAL)
    addresses = {"alertmanager": f"127.0.0.1:{alertmanager_port}", "prometheus": f"127.0.0.1:{port}"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [addresses["alertmanager"]]
    for job in config["scrape_configs"]:
        if job.pop("dns_sd_configs", None):
            job["file_sd_configs"] = [{"files": [str(folder / f"{job['job_name']}.json")], "refresh_interval": "1s"}]
        else:
            job["static_configs"][0]["targets"] = [addresses[job["job_name"]]]
    rules = folder / "rules"
    rules.mkdir()
    for path in (ROOT / "dashboards" / "rules").glob("*.yml"):
        text = re.sub(r"\bfor: \d+m", f"for: {PENDING}", path.read_text())
        (rules / path.name).write_text(text.replace("offset 10m", f"offset {AGO}"))
    config["rule_files"] = [str(rules / "*.yml")]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def set_targets(folder: Path, job: str, ports: Sequence[int]) -> None:
    """Tell Prometheus what there is to scrape, as DNS would."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    new = folder / f"{job}.new"
    new.write_text(json.dumps([{"targets": targets}]))
    new.rename(folder / f"{job}.json")


@dataclass(frozen=True)
class Prometheus:
    """Asks a running Prometheus."""

    session: aiohttp.ClientSession
    address: str

    async def get(self, path: str, **parameters: str) -> Any:
        async with self.session.get(f"{self.address}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def values(self, query: str) -> dict[str, float]:
        """The value of now of each series, by its labels as JSON."""
        result = (await self.get("query", query=query))["result"]
        return {json.dumps(series["metric"], sort_keys=True): float(series["value"][1]) for series in result}

    async def value(self, query: str) -> float | None:
        """The value of the only series, None when there is none."""
        found = list((await self.values(query)).values())
        assert len(found) <= 1, found
        return found[0] if found else None

    async def becomes(self, query: str, expected: float) -> None:
        """Wait for a value; the test's timeout bounds it."""
        while await self.value(query) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.25)


async def take_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mails: list[str]) -> None:
    """As much of SMTP as takes a mail."""
    writer.write(b"220 here\r\n")
    while line := (await reader.readline()).decode().strip():
        match line.upper().split(" ")[0]:
            case "DATA":
                writer.write(b"354 go on\r\n")
                mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                writer.write(b"250 taken\r\n")
            case "QUIT":
                writer.write(b"221 bye\r\n")
                break
            case _:
                writer.write(b"250 yes\r\n")
    writer.close()
