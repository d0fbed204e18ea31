"""The proof: a real run, watched by a real Prometheus with the project's rules, dashboards and Alertmanager.

Workers score with the echo model, so the generator knows each prediction, and what the accuracy must be.
"""

import asyncio
import itertools
import math
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from streamgauge.events import Feedback, encode
from tests.cluster import ROOT, Kafka, Stream, until
from tests.dashboards.reading import PANELS, expressions, named, names_in, substituted
from tests.dashboards.test_dashboards import RULES
from tests.echo import EchoModel, echo_probability
from tests.stack.running import (
    ALERTMANAGER,
    PROMETHEUS,
    Prometheus,
    alertmanager_config,
    free_port,
    process,
    prometheus_config,
    set_targets,
    take_mail,
)

PARTITIONS = 4
MODEL = EchoModel.ref.key
SERVING = r'"port": (\d+), "event": "http.serving"'
RIGHT, WRONG = 540, 60
"""Labels that agree with the prediction, and those that do not: an accuracy of 0.9."""
DROP = 300
"""Labels that do not, later: an accuracy of 0.6, of at most 0.632 by Wilson's interval."""
AUDIT_OF_ALL = {"STREAMGAUGE_WORKER_AUDIT_SHARE": "1", "STREAMGAUGE_LISTENER_AUDIT_HORIZON_HOURS": "0.001"}
"""Every prediction is audited, and a minute has matured as soon as it is over."""
EMPTY = {
    "no labels yet, or no listener is ready",
    "no predictions yet, or no listener is ready",
    "no texts now, or no worker answers",
    "no audited labels yet, or no listener is ready",
    "nothing audited yet, or no listener is ready",
    "no audited labels of matured minutes yet, or no listener is ready",
    "none",
}
"""What panels say that wait for something."""
REFUSED = 12


@dataclass(frozen=True)
class Run:
    """What the test talks to."""

    folder: Path
    stream: Stream
    producer: AIOKafkaProducer
    prometheus: Prometheus
    receiver_port: int
    alertmanager: str
    mails: list[str]
    numbers: Iterator[int]

    async def publish(self, count: int, *, right: int, seconds: float) -> None:
        """So many texts over so many seconds, each followed by its label; `right` of them, evenly spread, are right."""
        topics = self.stream.topics
        for number in range(count):
            text = f"text {next(self.numbers)}"
            predicted, other = ("POSITIVE", "NEGATIVE")[:: 1 if echo_probability(text) > 0.5 else -1]
            is_right = (number + 1) * right // count > number * right // count
            label = Feedback(id=f"test/{text}", label=predicted if is_right else other)
            headers = [("ce_source", b"test"), ("ce_id", text.encode())]
            await self.producer.send(topics.input, text.encode(), headers=headers, partition=number % PARTITIONS)
            await self.producer.send(topics.feedback, encode(label), partition=number % PARTITIONS)
            await asyncio.sleep(seconds / count)

    async def publish_what_is_refused(self) -> None:
        """`REFUSED` records that are not UTF-8."""
        for number in range(REFUSED):
            await self.producer.send(self.stream.topics.input, b"\xff", partition=number % PARTITIONS)

    async def received(self, *parts: str) -> str:
        """Wait until the receiver has been sent an alert whose line has all these parts."""
        while True:
            async with self.prometheus.session.get(f"http://127.0.0.1:{self.receiver_port}/") as response:
                lines = (await response.text()).splitlines()
            for line in lines:
                if all(part in line for part in parts):
                    return line
            await asyncio.sleep(0.25)

    async def firing(self) -> set[str]:
        alerts = (await self.prometheus.get("alerts"))["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@asynccontextmanager
async def watching(
    folder: Path, stream: Stream, started: ExitStack, change: Callable[[Path], None] = lambda _rules: None
) -> AsyncIterator[Run]:
    """Receiver, mail server, Alertmanager and Prometheus, whose folder of rules is changed first."""
    mails: list[str] = []
    mail = await asyncio.start_server(lambda r, w: take_mail(r, w, mails), "127.0.0.1", 0)
    receiver = [sys.executable, str(ROOT / "infra" / "alert_receiver.py"), "0"]
    _process, receiver_port = started.enter_context(process(receiver, folder / "receiver.log", r"on port (\d+)"))
    alertmanager, prometheus = free_port(), free_port()
    started.enter_context(
        process(
            [
                str(ALERTMANAGER),
                f"--config.file={alertmanager_config(folder, int(receiver_port), mail.sockets[0].getsockname()[1])}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ],
            folder / "alertmanager.log",
            r"(Listening on)",
        )
    )
    config = prometheus_config(folder, alertmanager, prometheus)
    change(folder / "rules")
    started.enter_context(
        process(
            [
                str(PROMETHEUS),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                f"--web.external-url=http://127.0.0.1:{prometheus}",
                f"--web.console.templates={ROOT / 'dashboards' / 'consoles'}",
            ],
            folder / "prometheus.log",
            r"(Server is ready)",
        )
    )
    servers = stream.kafka.bootstrap_servers
    async with (
        mail,
        aiohttp.ClientSession() as session,
        AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20) as producer,
    ):
        asked = Prometheus(session, f"http://127.0.0.1:{prometheus}")
        address = f"http://127.0.0.1:{alertmanager}"
        yield Run(folder, stream, producer, asked, int(receiver_port), address, mails, itertools.count())


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="NOT PROVEN: no prometheus or alertmanager here: apt-get install prometheus prometheus-alertmanager",
)
async def test_what_is_shown_is_what_happened(kafka: Kafka, tmp_path: Path) -> None:
    """Every panel has data, recorded accuracy is the truth, a drop and the loss of workers are heard of."""
    stream = await Stream.create(kafka.bootstrap_servers, PARTITIONS)
    environment = stream.worker_environment | AUDIT_OF_ALL | {"STREAMGAUGE_LOG_FORMAT": "json"}
    with ExitStack() as started:
        listener = [sys.executable, "-m", "streamgauge", "listen", "--http-port", "0"]
        own = environment | {"STREAMGAUGE_LISTENER_STORE": str(tmp_path / "listener.sqlite")}
        _process, listener_port = started.enter_context(process(listener, tmp_path / "listener.log", SERVING, own))
        worker = [sys.executable, "-m", "tests.stack.echo_worker"]
        workers = [
            started.enter_context(process(worker, tmp_path / f"worker-{name}.log", SERVING, environment))
            for name in "ab"
        ]
        ports = [int(port) for _process, port in workers]
        set_targets(tmp_path, "streamgauge-listener", [int(listener_port)])
        set_targets(tmp_path, "streamgauge-worker", ports)
        async with watching(tmp_path, stream, started) as run:
            await everything_is_watched(run)
            await an_empty_panel_says_why(run)
            await accuracy_is_the_truth(run)
            await a_drop_is_heard_of(run)
            await every_panel_has_data(run)
            await recounted_from_the_topics(run, int(listener_port))
            [first, second] = [process for process, _port in workers]
            second.send_signal(signal.SIGTERM)
            set_targets(tmp_path, "streamgauge-worker", ports[:1])
            await run.received("firing warning StreamgaugeFewerWorkers", f"Only 1 workers of {stream.group} are left")
            first.kill()
            await run.received("firing critical StreamgaugeNoWorker", "0 workers answer")


async def everything_is_watched(run: Run) -> None:
    """All targets are up, both workers own partitions, and no rule fails."""
    prometheus = run.prometheus
    await prometheus.becomes('count(up{job=~"streamgauge-.+"} == 1)', 3)
    await prometheus.becomes("count(streamgauge_partitions_owned > 0)", 2)
    await prometheus.becomes("streamgauge:unowned_partitions:sum", 0)
    await prometheus.becomes("count(up == 1)", 5)
    # A rate needs two scrapes; a third, since they are not all at one time.
    await prometheus.becomes("min(count_over_time(streamgauge_build_info[1m])) >= bool 3", 1)
    await prometheus.becomes("count(rate(streamgauge_input_end_offset[30s]))", PARTITIONS)
    targets = (await prometheus.get("targets"))["activeTargets"]
    assert {target["health"] for target in targets} == {"up"}


async def an_empty_panel_says_why(run: Run) -> None:
    """Before the first text, a panel shows 0, or says what it waits for; what the processes tell is there."""
    silent = await queries_without_data(run)
    empty = {
        str(panel): panel.json["fieldConfig"]["defaults"]["noValue"]
        for panel in PANELS
        if not panel.is_text and all((str(panel), expr) in silent for expr in expressions(panel))
    }
    assert set(empty.values()) <= EMPTY, empty
    assert "Streamgauge Operations: Memory" not in empty
    assert "ML Model Monitoring: Judged predictions" not in empty


async def of_the_last_minute(run: Run, expr: str) -> list[dict[str, Any]]:
    """The series that a panel's query gives, with labels and values."""
    now_s = time.time()
    query = {"query": substituted(expr), "start": f"{now_s - 60}", "end": f"{now_s}", "step": "5"}
    series: list[dict[str, Any]] = (await run.prometheus.get("query_range", **query))["result"]
    return series


async def names_that_are_given_twice(run: Run) -> list[tuple[str, str]]:
    """Of the lines and numbers of one panel."""
    twice = []
    for panel in PANELS:
        given: list[str] = []
        for target in panel.json.get("targets", []):
            if panel.json["type"] != "table":
                series = await of_the_last_minute(run, target["expr"])
                given += [named(target["legendFormat"], one["metric"]) for one in series]
        twice += [(str(panel), name) for name, count in Counter(given).items() if count > 1]
    return twice


async def queries_without_data(run: Run) -> list[tuple[str, str]]:
    """The queries of panels that give no number for the last minute."""
    silent = []
    for panel in PANELS:
        for expr in expressions(panel):
            series = await of_the_last_minute(run, expr)
            if all(math.isnan(float(value)) for one in series for _at, value in one["values"]):
                silent.append((str(panel), expr))
    return silent


async def accuracy_is_the_truth(run: Run) -> None:
    """The rules record what the generator knows, to the last digit, and nothing alarms."""
    prometheus = run.prometheus
    await run.publish_what_is_refused()
    await run.publish(RIGHT + WRONG, right=RIGHT, seconds=20)
    await prometheus.becomes('sum(streamgauge:accuracy_samples:sum{window="all"})', RIGHT + WRONG)
    # The group of rules is evaluated in order, at one time: the accuracy is of the same scrape.
    of = f'{{model="{MODEL}", window="all"}}'
    assert await prometheus.value(f"streamgauge:accuracy:ratio{of}") == RIGHT / (RIGHT + WRONG)
    await prometheus.becomes(f"streamgauge:audit_samples:max{of}", RIGHT + WRONG)
    assert await prometheus.value(f"streamgauge:audit_accuracy:ratio{of}") == RIGHT / (RIGHT + WRONG)
    await prometheus.becomes(f'streamgauge:audit_sequence_samples:max{{model="{MODEL}"}}', RIGHT + WRONG)  # matured
    lower, upper = (f'streamgauge:audit_accuracy_sequence_{end}:ratio{{model="{MODEL}"}}' for end in ("lower", "upper"))
    assert (await prometheus.value(lower) or 1) < RIGHT / (RIGHT + WRONG) < (await prometheus.value(upper) or 0)
    assert await prometheus.value(f"streamgauge:label_coverage:ratio{of}") == 1
    assert await prometheus.value(f"streamgauge:predictions:sum{of}") == RIGHT + WRONG
    # Workers are scraped at moments of their own.
    await prometheus.becomes("sum(ml_model_requests_total)", RIGHT + WRONG)
    await prometheus.becomes('sum(streamgauge_dead_letters_total{reason="not_utf8"})', REFUSED)
    # On a busy machine latency may really be too long, and its alerts right.
    assert {name for name in await run.firing() if not name.startswith("StreamgaugeLatency")} == set()


async def a_drop_is_heard_of(run: Run) -> None:
    """Accuracy falls: the fast alert arrives with the value by webhook, Slack and mail; evidence follows."""
    samples = RIGHT + WRONG + DROP
    await run.publish(DROP, right=0, seconds=5)
    upper = wilson_upper(RIGHT / samples, samples)
    assert upper < 0.64
    line = await run.received("firing critical StreamgaugeAccuracyCollapsed", MODEL)
    assert re.search(rf"Accuracy of {MODEL} over \w+ has collapsed: it is [67]\d\.?\d*% at most$", line)
    await run.prometheus.becomes(f'streamgauge:accuracy_samples:sum{{model="{MODEL}", window="5m"}}', samples)
    recorded = await run.prometheus.value(f'streamgauge:accuracy_wilson_upper:ratio{{model="{MODEL}", window="5m"}}')
    assert recorded == pytest.approx(upper, rel=1e-12)
    delivered = await run.received("slack: FIRING critical: StreamgaugeAccuracyCollapsed")
    await the_link_opens(run, delivered)
    await until(lambda: any("Subject: FIRING critical: StreamgaugeAccuracyCollapsed" in mail for mail in run.mails))
    # Silenced by the collapse, and later: its minutes must have matured.
    below = 'count(ALERTS{alertname="StreamgaugeAccuracyBelowFloor", alertstate="firing"})'
    await run.prometheus.becomes(below, 1)


async def the_link_opens(run: Run, delivered: str) -> None:
    """The delivered alert's link to its runbook leads to a page that has the alert's section."""
    [link] = re.findall(r"\((http://[^)]+)\)$", delivered)
    url, _hash, anchor = link.partition("#")
    async with run.prometheus.session.get(url) as response:
        assert response.content_type == "text/html"
        assert f'<section id="{anchor}">' in await response.text()


async def recounted_from_the_topics(run: Run, listener_port: int) -> None:
    """`streamgauge reconcile` counts the listener's numbers anew, with code of its own, and finds the same."""
    url = f"http://127.0.0.1:{listener_port}"
    command = [sys.executable, "-m", "streamgauge", "reconcile", "--listener", url, "--json"]
    recount = await asyncio.create_subprocess_exec(
        *command, env=run.stream.worker_environment, cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    output, errors = await recount.communicate()
    assert recount.returncode == 0, output.decode() + errors.decode()


async def every_panel_has_data(run: Run) -> None:
    """Each query of each panel gives a number for the last minute, each line has its own name, and each metric that is
    named exists.
    """
    await run.publish_what_is_refused()
    await run.publish(DROP, right=DROP, seconds=5)
    await run.prometheus.becomes('sum(streamgauge_dead_letters_total{reason="not_utf8"})', 2 * REFUSED)
    await run.prometheus.becomes("sum(ml_model_requests_total)", RIGHT + WRONG + 2 * DROP)
    assert await queries_without_data(run) == []
    assert await names_that_are_given_twice(run) == []
    named = names_in([*(expr for panel in PANELS for expr in expressions(panel)), *(rule["expr"] for rule in RULES)])
    assert named <= set(await run.prometheus.get("label/__name__/values"))
    rules = [rule for group in (await run.prometheus.get("rules"))["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) == len(RULES)
    await report_scrapes(run)


async def report_scrapes(run: Run) -> None:
    """Size and duration of what is scraped, for whoever runs this with `-s`; a scrape of 5 s apart must be cheap."""
    for what in ("scrape_samples_scraped", "scrape_duration_seconds"):
        for series, value in (await run.prometheus.values(f'{what}{{job=~"streamgauge-.+"}}')).items():
            print(what, series, value)
    assert (await run.prometheus.value('max(scrape_duration_seconds{job=~"streamgauge-.+"})') or 9) < 0.5


def wilson_upper(share: float, samples: int) -> float:
    """The upper end of the interval, as the textbook has it."""
    z = 1.96
    centre = share + z * z / (2 * samples)
    return (centre + z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples**2))) / (1 + z * z / samples)
