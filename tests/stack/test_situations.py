"""What an operator sees and hears when something is missing, on a real Prometheus and Alertmanager.

Each situation of `docs/generators/situations.py` is made, compared with what that page says, and mended again.
Durations are seconds here; promtool's tests hold the true ones. Workers and listeners are this process's own.
"""

import asyncio
import itertools
import json
import math
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from dashboards.metrics_table import listener_registry, worker_registry
from docs.generators import situations
from docs.generators.situations import NUMBER, Situation
from feedback_listener import topic_reader
from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings, Shard
from feedback_listener.store import prepare
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.events import Feedback, encode
from streamgauge.http import serve_http
from streamgauge.settings import KafkaSettings
from streamgauge.telemetry import service_registry
from tests.cluster import Stream
from tests.dashboards.reading import PANELS, Panel, expressions, names_in, substituted
from tests.dashboards.test_dashboards import RULES
from tests.echo import EchoModel, echo_probability
from tests.faults.lanes import Lane, bound_port, free_ports, listeners_of
from tests.faults.proxy import HOST, Mode, Proxy
from tests.stack.running import AGO, ALERTMANAGER, PENDING, PROMETHEUS, Prometheus, set_targets
from tests.stack.test_observed import watching
from worker import lag
from worker.service import Worker
from worker.settings import WorkerSettings

PARTITIONS = 4
BEFORE = 150
"""Texts with labels, before anything is missing: as many as NoFeedback asks for."""
STEP_S = 1
"""From scrape to scrape, and from evaluation to evaluation."""
STEPS = {"1m": 4, "5m": 8, "15m": 10, "30m": 10, "1h": 12, "6h": 12}
"""What ranges are here."""
PENDING_STEPS, AGO_STEPS = 3, 60
EVALUATIONS = 5
"""More than an alert waits for, in which nothing else may fire."""
GIVEN_UP_S = 180.0
WORKERS = ("worker-a", "worker-b")
COPIES = ("listener-1", "listener-1-copy")
LISTENERS = {"listener-0": "0/2"} | dict.fromkeys(COPIES, "1/2")


def exported(registry: Callable[[], object]) -> set[str]:
    """The names of all series of a service, those of Python's client library left out."""
    names = {sample.name for metric in registry().collect() for sample in metric.samples}  # type: ignore[attr-defined]
    return {name for name in names if name.startswith(("streamgauge_", "ml_model_"))}


WORKERS_OWN = exported(worker_registry) - exported(listener_registry)
LISTENERS_OWN = exported(listener_registry) - exported(worker_registry)
OF_ITSELF = {f"streamgauge_listener_{name}" for name in ("ready", "time_seconds", "shards", "position", "store_bytes")}
"""What a listener knows without a broker."""
KAFKAS = {
    "streamgauge_lag_records",
    "streamgauge_lag_seconds",
    "streamgauge_input_partitions",
    "streamgauge_partitions_owned",
}
UNKNOWN: dict[str, set[str]] = {
    situations.BROKER_GONE.name: KAFKAS | (LISTENERS_OWN - OF_ITSELF),
    situations.CUT_OFF.name: KAFKAS | (LISTENERS_OWN - OF_ITSELF),
    situations.WORKERS_DEAD.name: WORKERS_OWN,
    situations.WORKERS_GONE.name: WORKERS_OWN,
    situations.SHARD_GONE.name: {"streamgauge_matched_labels"},
}
"""What nobody measures meanwhile: no query that reads it may give a number."""
FIRING = 'ALERTS{alertstate="firing", alertname!~"StreamgaugeLatency.+"}'
"""On a busy machine latency may really be too long."""
RECORDED = {rule["record"]: names_in([rule["expr"]]) for rule in RULES if "record" in rule}


def read_by(expr: str) -> set[str]:
    """The metrics that a query goes by, through recording rules."""
    found, asked = set(), names_in([expr])
    while asked:
        name = asked.pop()
        if name in RECORDED:
            asked |= RECORDED[name]
        else:
            found.add(name)
    return found


def in_steps(text: str) -> str:
    """Its ranges."""
    return re.sub(r"\[(\w+)]", lambda found: f"[{STEPS[found[1]] * STEP_S}s]", text)


def query(expr: str) -> str:
    """A panel's, as Grafana would send it."""
    return in_steps(substituted(expr.replace("$__rate_interval", "1m")))


def scale(rules: Path) -> None:
    """All durations in steps. What is fewer than some time ago is so for long."""
    pending = f"for: {PENDING_STEPS * STEP_S}s"
    for path in rules.glob("*.yml"):
        text = re.sub(r"keep_firing_for: \d+[mh]", f"keep_firing_{pending}", in_steps(path.read_text()))
        text = text.replace(f" for: {PENDING}", f" {pending}").replace(f"offset {AGO}", f"offset {AGO_STEPS * STEP_S}s")
        path.write_text(text)
    config = rules.parent / "prometheus.yml"
    config.write_text(re.sub(r"(_interval): 1s", rf"\1: {STEP_S}s", config.read_text()))


async def settles(problem: Callable[[], Awaitable[object]]) -> None:
    """Wait until there is none; the last one is told."""
    last = None
    with suppress(TimeoutError):
        async with asyncio.timeout(GIVEN_UP_S):
            while last := await problem():  # noqa: ASYNC110
                await asyncio.sleep(0.25)
    if last:
        pytest.fail(pformat(last, width=200))


@dataclass
class Feed:
    """Texts and labels that come all the time, or not."""

    stream: Stream
    texts: bool = True
    labels: bool = True
    sent: list[str] = field(default_factory=list)
    turns: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, servers: str) -> None:
        """Until cancelled; what cannot be sent is not."""
        async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20) as producer:
            while True:
                with suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(5):
                        await self._send(producer)
                await asyncio.sleep(0.2 if len(self.sent) > BEFORE else 0.02)

    async def _send(self, producer: AIOKafkaProducer) -> None:
        topics = self.stream.topics
        if self.texts:
            text = f"text {len(self.sent)}"
            headers = [("ce_source", b"test"), ("ce_id", text.encode())]
            await producer.send(topics.input, text.encode(), headers=headers, partition=len(self.sent) % PARTITIONS)
            self.sent.append(text)
        if self.labels:
            text = self.sent[next(self.turns) % len(self.sent)]
            label = "POSITIVE" if echo_probability(text) > 0.5 else "NEGATIVE"
            await producer.send(topics.feedback, encode(Feedback(id=f"test/{text}", label=label)))


@dataclass
class Fleet:
    """Workers and listeners of this process, by name, each with its own port; Prometheus is told where they are."""

    folder: Path
    stream: Stream
    kafka: KafkaSettings
    tasks: asyncio.TaskGroup
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    async def start(self, *names: str) -> None:
        for name in names:
            port = asyncio.get_running_loop().create_future()
            serving = self._listener(name, port) if name in LISTENERS else self._worker(name, port)
            self.running[name] = self.tasks.create_task(serving, name=name)
            self.ports[name] = await port
        self.tell()

    async def _worker(self, name: str, port: asyncio.Future[int]) -> None:
        settings = WorkerSettings(group=self.stream.group, instance=name, audit_share=1, session_timeout_s=6)
        registry = service_registry()
        worker = Worker(self.kafka, self.stream.topics, settings, registry, EchoModel())
        async with serve_http(HOST, 0, registry, live=worker.live, ready=worker.ready) as bound:
            port.set_result(bound)
            await worker.run(asyncio.Event())

    async def _listener(self, name: str, port: asyncio.Future[int]) -> None:
        shard, store = Shard.parse(LISTENERS[name]), self.folder / f"{name}.sqlite"
        settings = ListenerSettings(shard=shard, store=store, audit_horizon_hours=0.001)
        registry = service_registry()
        listener = Listener(self.kafka, self.stream.topics, settings, registry)
        await asyncio.to_thread(prepare, store)
        async with serve_http(HOST, 0, registry, live=listener.live, ready=listener.ready, in_thread=True) as bound:
            port.set_result(bound)
            await listener.run(asyncio.Event())

    def tell(self, *, without: Sequence[str] = ()) -> None:
        for job, names in (("streamgauge-worker", WORKERS), ("streamgauge-listener", LISTENERS)):
            set_targets(self.folder, job, [self.ports[name] for name in names if name not in without])

    async def end(self, *names: str) -> None:
        """What Prometheus sees of a killed process: nothing answers at its port."""
        for name in names:
            self.running[name].cancel()
        await asyncio.wait([self.running[name] for name in names])


@dataclass
class Watch:
    """What Prometheus and Alertmanager say."""

    prometheus: Prometheus
    alertmanager: str

    async def alerts(self) -> tuple[set[str], set[str]]:
        """Those that are delivered, and those that are silenced; without those on latency."""
        async with self.prometheus.session.get(f"{self.alertmanager}/api/v2/alerts") as response:
            alerts = await response.json()
        by_state: dict[str, set[str]] = {"active": set(), "suppressed": set(), "unprocessed": set()}
        for alert in alerts:
            by_state[alert["status"]["state"]].add(alert["labels"]["alertname"])
        heard = {name for name in by_state["active"] if not name.startswith("StreamgaugeLatency")}
        return heard, by_state["suppressed"] - heard

    async def shown(self, panel: Panel) -> str:
        """A stat panel's number, or its words."""
        for expr in expressions(panel):
            for value in (await self.prometheus.values(query(expr))).values():
                if not math.isnan(value):
                    return f"{value:g}"
        return str(panel.json["fieldConfig"]["defaults"]["noValue"])

    async def differences(self, situation: Situation) -> object:
        """Where panels and alerts are not as the page says; and numbers that nobody has measured."""
        found: dict[str, object] = {}
        for panel in PANELS:
            expected = situation.shown.get(panel.json["title"])
            if expected:
                shown = await self.shown(panel)
                if shown != expected and not (expected == NUMBER and re.fullmatch(r"[\d.e+-]+", shown)):
                    found[str(panel)] = f"{shown}, not {expected}"
            for expr in expressions(panel):
                if read_by(expr) & UNKNOWN.get(situation.name, set()):
                    values = await self.prometheus.values(query(expr))
                    if any(not math.isnan(value) for value in values.values()):
                        found[f"{panel}: {expr}"] = values
        heard, silenced = await self.alerts()
        if (heard, silenced) != (set(situation.heard), set(situation.silenced)):
            found["alerts"] = f"heard {heard}, silenced {silenced}"
        return found

    async def is_seen(self, situation: Situation, *, after: Situation | None = None) -> None:
        """Panels and alerts become what the page says, stay so, and nothing else fires on the way there; `after`: what
        has not been mended before.
        """
        began_s = time.time()
        await settles(lambda: self.differences(situation))
        evaluated = await self.evaluations()
        while await self.evaluations() < evaluated + EVALUATIONS:  # noqa: ASYNC110
            await asyncio.sleep(0.25)
        await settles(lambda: self.differences(situation))
        seconds = math.ceil(time.time() - began_s)
        fired = await self.prometheus.values(f"count by (alertname) (max_over_time({FIRING}[{seconds}s]))")
        names, expected = {json.loads(labels)["alertname"] for labels in fired}, {*situation.heard, *situation.silenced}
        assert expected <= names <= expected | {*(after.heard if after else ()), *(after.silenced if after else ())}
        print(f"{situation.name}: as the page says, within {seconds} s")

    async def evaluations(self) -> float:
        return await self.prometheus.value("min(prometheus_rule_group_iterations_total)") or 0

    async def is_well(self) -> None:
        """All is known, and nothing fires any more."""

        async def differences() -> object:
            fired = await self.prometheus.values(f"count by (alertname) ({FIRING})")
            return await self.differences(Situation("all is well", situations.ALL_WELL)) or fired

        await settles(differences)


@asynccontextmanager
async def broken_at_will(folder: Path, version: str) -> AsyncIterator[tuple[EmbeddedKafka, Lane, Proxy, Stream]]:
    """A broker that keeps its data, and a network between it and the services."""
    async with AsyncExitStack() as stack:
        [broker_port] = free_ports(1)
        lane = Lane(stack.enter_context(bound_port()), broker_port)
        data = folder / "kafka"
        embedded = EmbeddedKafka(data_dir=data, version=version, settings=listeners_of([lane]))
        await asyncio.to_thread(stack.enter_context, embedded)
        proxy = await stack.enter_async_context(lane.proxy())
        stream = await Stream.create(embedded.bootstrap_servers, PARTITIONS)
        yield embedded, lane, proxy, stream


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="NOT PROVEN: no prometheus or alertmanager here: apt-get install prometheus prometheus-alertmanager",
)
async def test_what_is_missing_is_seen_and_heard_of(
    kafka_version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: no situation shows a number that nobody has measured, each raises its alerts and no other,
    and each is over when it is mended.
    """
    for module in (lag, topic_reader):
        monkeypatch.setattr(module, "SILENT_S", 10.0 * STEP_S)
    monkeypatch.setattr(lag, "ASK_EVERY_S", 1.0)
    async with broken_at_will(tmp_path, kafka_version) as (embedded, lane, network, stream), AsyncExitStack() as stack:
        run = await stack.enter_async_context(watching(tmp_path, stream, stack.enter_context(ExitStack()), scale))
        watch, feed = Watch(run.prometheus, run.alertmanager), Feed(stream)
        async with asyncio.TaskGroup() as tasks:
            fleet = Fleet(tmp_path, stream, KafkaSettings(bootstrap_servers=lane.bootstrap_servers), tasks)
            await fleet.start(*WORKERS, *LISTENERS)
            feeding = tasks.create_task(feed.run(embedded.bootstrap_servers))
            await watch.is_well()
            await nothing_comes(watch, feed)
            await listeners_vanish(watch, fleet)
            await workers_vanish(watch, fleet)
            feed.texts = False  # so that nothing but silence tells of it
            await kafka_vanishes(watch, feed, embedded, network)
            feeding.cancel()
            await fleet.end(*WORKERS, *LISTENERS)


async def nothing_comes(watch: Watch, feed: Feed) -> None:
    """No texts, which is nobody's fault; then texts, and no labels."""
    feed.texts = False
    await watch.is_seen(situations.NO_TRAFFIC)
    feed.texts, feed.labels = True, False
    await watch.is_seen(situations.NO_LABELS)
    feed.labels = True
    await watch.is_well()


async def listeners_vanish(watch: Watch, fleet: Fleet) -> None:
    """A copy of a shard, then the other one."""
    first, second = COPIES
    await fleet.end(first)
    await watch.is_seen(situations.COPY_GONE)
    await fleet.end(second)
    await watch.is_seen(situations.SHARD_GONE, after=situations.COPY_GONE)
    await fleet.start(*COPIES)
    await watch.is_well()


async def workers_vanish(watch: Watch, fleet: Fleet) -> None:
    """All of them; then DNS does not name them any more."""
    await fleet.end(*WORKERS)
    await watch.is_seen(situations.WORKERS_DEAD)
    fleet.tell(without=WORKERS)
    await watch.is_seen(situations.WORKERS_GONE, after=situations.WORKERS_DEAD)
    await fleet.start(*WORKERS)
    await watch.is_well()


async def kafka_vanishes(watch: Watch, feed: Feed, embedded: EmbeddedKafka, network: Proxy) -> None:
    """The network to it, then it itself."""
    await watch.prometheus.becomes("sum(streamgauge:texts:rate1m)", 0)
    await network.switch(Mode.DROP)
    await watch.is_seen(situations.CUT_OFF)
    await network.switch(Mode.PASS)
    feed.texts = True
    await watch.is_well()
    feed.texts = False
    await watch.prometheus.becomes("sum(streamgauge:texts:rate1m)", 0)
    [broker] = embedded.nodes
    broker.kill(signal.SIGTERM)
    await asyncio.to_thread(broker.wait)
    await watch.is_seen(situations.BROKER_GONE)
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(broker.wait_ready)
    feed.texts = True
    await watch.is_well()
