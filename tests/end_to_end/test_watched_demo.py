"""`demo --watch` on the real Prometheus and Alertmanager. Grafana is a stand-in: the real one is not to be had here."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.cluster import ROOT, until
from tests.dashboards.reading import PANELS, expressions, substituted
from tests.dashboards.test_dashboards import ALERTS, RULES
from tests.stack.running import ALERTMANAGER, PROMETHEUS, Prometheus

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (PROMETHEUS and ALERTMANAGER),
        reason="NOT PROVEN: no prometheus or alertmanager here: apt-get install prometheus prometheus-alertmanager",
    ),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to see processes in"),
]

GRAFANA = """#!{python}
import http.server, json, os, subprocess, sys
plugin = subprocess.Popen(["sleep", "600"])
told = {{name: value for name, value in os.environ.items() if name.startswith("GF_")}}
said = {{"pid": os.getpid(), "arguments": sys.argv[1:], "environment": told}}
provisioning = told["GF_PATHS_PROVISIONING"]
for name in ("datasources/prometheus.yml", "dashboards/streamgauge.yml"):
    said[name] = open(os.path.join(provisioning, name)).read()
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
    def log_message(self, *_arguments):
        pass
address = told["GF_SERVER_HTTP_ADDR"], int(told["GF_SERVER_HTTP_PORT"])
with open({record!r}, "w") as record:
    json.dump(said, record)
http.server.HTTPServer(address, Health).serve_forever()
"""


class Demo:
    """A running `streamgauge demo --watch`, all of whose processes have their temporary files in `folder`."""

    def __init__(self, process: Process, folder: Path, record: Path) -> None:
        self.process, self.folder, self._record = process, folder, record
        self.lines: list[str] = []

    async def says(self, part: str) -> str:
        """The first line that has this part, from the start on."""
        assert self.process.stdout
        while not (found := [line for line in self.lines if part in line]):
            line = (await self.process.stdout.readline()).decode()
            assert line, "".join(self.lines)
            self.lines.append(line)
        return found[0]

    async def address(self, name: str) -> str:
        return (await self.says(f"{name:<12}  http")).split()[1]

    def grafana(self) -> dict[str, Any]:
        """What the stand-in was started with."""
        told: dict[str, Any] = json.loads(self._record.read_text())
        return told

    def living(self) -> list[str]:
        """The command lines of all its processes, found by the environment that they have inherited."""
        sign, found = f"TMPDIR={self.folder}\0".encode(), []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and sign in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().decode())
        return found

    async def end(self, signum: signal.Signals) -> int | None:
        """Send the signal to the demo alone, and wait until it and all that it started are gone."""
        self.process.send_signal(signum)
        await self.process.communicate()
        await until(lambda: not self.living())
        return self.process.returncode


@asynccontextmanager
async def watched_demo(folder: Path) -> AsyncIterator[Demo]:
    """The demo with a stand-in for Grafana, once all three have said where they are."""
    temporary, record, home = folder / "tmp", folder / "record.json", folder / "grafana"
    for path in (temporary, home / "bin", home / "conf"):
        path.mkdir(parents=True)
    (home / "conf" / "defaults.ini").touch()
    executable = home / "bin" / "grafana"
    executable.write_text(GRAFANA.format(python=sys.executable, record=str(record)))
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"TMPDIR": str(temporary), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamgauge", "demo", "--watch", "--http-port", "0", "--rate", "20",
        stdout=PIPE, env=environment, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    demo = Demo(process, temporary, record)
    try:
        for name in ("Prometheus", "Alertmanager", "Grafana"):
            await demo.address(name)
        yield demo
    finally:
        if process.returncode is None:
            await demo.end(signal.SIGKILL)


async def test_everything_is_watched_and_gone_after_ctrl_c(tmp_path: Path) -> None:
    """Targets are up, rules are evaluated, each query is answered; then no process and no file is left."""
    with closing(socket.socket()) as usual:
        with suppress(OSError):  # somebody else's Prometheus
            usual.bind(("127.0.0.1", 9090))
            usual.listen()
        async with watched_demo(tmp_path) as demo, aiohttp.ClientSession() as session:
            assert "(port 9090 is taken)" in await demo.says("Prometheus  ")
            prometheus = Prometheus(session, await demo.address("Prometheus"))
            await prometheus.becomes("count(up == 1)", 3)
            targets = (await prometheus.get("targets"))["activeTargets"]
            jobs = ["alertmanager", "prometheus", "streamgauge-worker"]
            assert sorted(target["labels"]["job"] for target in targets) == jobs
            await prometheus.becomes('count(streamgauge:accuracy:ratio{window="all"})', 1)
            await every_query_is_answered(prometheus)
            await every_runbook_opens(prometheus)
            await alertmanager_is_told(prometheus, await demo.address("Alertmanager"))
            grafana_is_told(demo, prometheus.address)
            assert await demo.end(signal.SIGINT) == 0
            assert list(demo.folder.iterdir()) == []


async def every_query_is_answered(prometheus: Prometheus) -> None:
    """No rule fails, and Prometheus takes each query of each panel."""
    rules = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    await prometheus.becomes("sum(prometheus_rule_evaluation_failures_total)", 0)
    now_s = time.time()
    for panel in PANELS:
        for expr in expressions(panel):
            period = {"start": f"{now_s - 60}", "end": f"{now_s}", "step": "5"}
            await prometheus.get("query_range", query=substituted(expr), **period)


async def every_runbook_opens(prometheus: Prometheus) -> None:
    """Each alert's link, as this Prometheus completes it, leads to the alert's section."""
    rules = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
    links = [rule["annotations"]["runbook"] for rule in rules if rule["type"] == "alerting"]
    assert len(links) == len(ALERTS)
    for link in links:
        url, _hash, anchor = link.replace("{{ $externalURL }}", prometheus.address).partition("#")
        async with prometheus.session.get(url) as response:
            assert f'<section id="{anchor}">' in await response.text()


async def alertmanager_is_told(prometheus: Prometheus, address: str) -> None:
    """Prometheus knows it, and it has the stack's routes."""
    [known] = (await prometheus.get("alertmanagers"))["activeAlertmanagers"]
    assert known["url"].startswith(f"{address}/")
    async with prometheus.session.get(f"{address}/api/v2/receivers") as response:
        assert {receiver["name"] for receiver in await response.json()} == {"local", "page", "team"}


def grafana_is_told(demo: Demo, prometheus: str) -> None:
    """Its home, where it may write, what it shows, and whom it asks."""
    told = demo.grafana()
    server, home, config = told["arguments"]
    assert (server, home) == ("server", f"--homepath={demo.folder.parent / 'grafana'}")
    written = [config.removeprefix("--config=")]
    written += [value for name, value in told["environment"].items() if name.startswith("GF_PATHS_")]
    assert len(written) == 5
    assert all(path.startswith(f"{demo.folder}/") for path in written)
    [datasource] = yaml.safe_load(told["datasources/prometheus.yml"])["datasources"]
    [provider] = yaml.safe_load(told["dashboards/streamgauge.yml"])["providers"]
    assert datasource["url"] == prometheus
    assert Path(provider["options"]["path"]) == ROOT / "dashboards"
    assert Path(told["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_when_the_demo_is_ended(tmp_path: Path, signum: signal.Signals) -> None:
    """Asked or killed: Kafka, Prometheus, Alertmanager, Grafana and what Grafana has started end with it."""
    async with watched_demo(tmp_path) as demo:
        commands = " ".join(demo.living())
        for name in ("kafka.Kafka", "--storage.tsdb.path", "--cluster.listen-address", "--homepath", "sleep"):
            assert name in commands
        code = await demo.end(signum)
        assert code == (0 if signum == signal.SIGTERM else -signum)
        if signum == signal.SIGTERM:
            assert list(demo.folder.iterdir()) == []


async def test_a_program_that_ends_is_told_of(tmp_path: Path) -> None:
    """With the end of its log, and the demo goes on; what it had started ends too."""
    async with watched_demo(tmp_path) as demo:
        os.kill(demo.grafana()["pid"], signal.SIGKILL)
        assert "its log is" in await demo.says("Grafana has ended")
        await until(lambda: not any("sleep" in command for command in demo.living()))
        await demo.says("results 1")
        assert await demo.end(signal.SIGINT) == 0


async def test_what_is_missing_is_said_and_the_demo_runs(tmp_path: Path) -> None:
    """Nothing on the PATH: each with how to get it, no process of theirs, and all texts have their results."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamgauge", "demo", "--watch", "--http-port", "0", "--duration", "1", "--json",
        stdout=PIPE, env=os.environ | {"PATH": str(tmp_path)}, cwd=ROOT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0
    for name in ("Prometheus", "Alertmanager", "Grafana"):
        assert f"{name:<12}  not found; to get it: https://" in output
    assert "Nothing is started without Prometheus" in output
    summary = json.loads(output.splitlines()[-1])
    assert summary["published"] == summary["results"] > 0
