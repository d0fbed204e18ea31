"""The demo: Kafka, worker, listener and a producer of labelled texts in one process tree, and a view of it all."""

import asyncio
import heapq
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from rich.console import Console

from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings
from producer.corpus import Corpus, Sample, bundled
from producer.pacing import Pace
from producer.publish import Publisher, publish
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.commands.demo_view import Tally
from streamgauge.commands.monitoring import Programs, watched
from streamgauge.commands.page.settings import ANOTHER_PORT as ANOTHER_PAGE_PORT
from streamgauge.commands.page.settings import AppSettings
from streamgauge.commands.top.screen import Screen
from streamgauge.commands.top.watching import Sources, Watch
from streamgauge.errors import ConfigurationError, Stopped
from streamgauge.events import Feedback, decode_prediction
from streamgauge.http import check_port, serve_http
from streamgauge.kafka import client_options, close_consumer, sleep_or_stop
from streamgauge.labels import Classes, meaning, read_map, refusal
from streamgauge.provisioning import make_right
from streamgauge.settings import KafkaSettings, TopicSettings, load
from streamgauge.telemetry import service_registry
from worker.model.session import OnnxModel
from worker.service import Worker
from worker.settings import WorkerSettings

LOOPBACK = "127.0.0.1"
"""A demo is for whoever started it, unless the setting says otherwise."""
PARTITIONS = 4
TICK_S = 0.1
MAX_LABEL_DELAY_S = 4.0
SEED = 7
ANOTHER_PORT = "--http-port 0 takes a free one"
ABOUT_LABELS = (
    "A text's label follows it by some seconds. One text in twenty gets a wrong one first, and one gets its label "
    "twice: that is invented, to show corrections."
)
ABOUT_THE_SAMPLE = (
    "The texts are product reviews and tweets, with labels that people gave them. The model that comes along gets 82 % "
    "of them right; the README's 91.7 % are of what it was trained for, sentences of film reviews."
)
SETTLE_AFTER_STOP_S = 10.0
"""After Ctrl-C, what is published already is still scored, but not for longer than this."""


@dataclass(frozen=True)
class DemoOptions:
    """The command line of `streamgauge demo`.

    `duration_s` None: until Ctrl-C. `programs`: what watches it, None: nothing does.
    """

    duration_s: float | None
    rate_per_s: float
    input_file: Path | None
    label_map: str | None
    jars_dir: Path | None
    http_port: int
    as_json: bool
    programs: Programs | None = None

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a rate that is none."""
        Pace(self.rate_per_s)


def labelled_texts(options: DemoOptions, classes: Classes) -> Iterator[Sample]:
    """The texts to play, their labels named as the model names its classes. Raises ConfigurationError."""
    samples: Iterable[Sample]
    if options.input_file:
        corpus = Corpus.of_texts(options.input_file, load(TopicSettings).max_message_bytes)
        where, samples, labels = str(options.input_file), corpus.samples(), corpus.labels
    else:
        sample = bundled()
        where, samples = "the sample", itertools.cycle(sample)
        labels = Counter(one.label for one in sample if one.label)
    fit = meaning(labels, [classes], read_map(options.label_map))
    if fit.misfits:
        raise ConfigurationError(refusal(where, labels, fit.misfits, [classes]))
    return (one._replace(label=one.label and fit.of[one.label]) for one in samples)


Page = Callable[[KafkaSettings, TopicSettings, AppSettings, asyncio.Event, Callable[[str], None]], Awaitable[None]]
"""Serves the web page until the event is set, and says where."""


def web_page() -> Page | None:
    """None where its extra is not installed."""
    try:
        from streamgauge.commands.page.serve import serve
    except ModuleNotFoundError:
        return None
    return serve


async def run_demo(
    options: DemoOptions, model: OnnxModel, samples: Iterable[Sample], page: Page | None, stop: asyncio.Event
) -> None:
    """Run until the duration is over, the texts have ended or `stop` is set; then print the summary."""
    view = Screen(Console(highlight=False), "Streamgauge", "Ctrl-C ends", is_whole=False)
    broker = EmbeddedKafka(jars_dir=options.jars_dir, progress=view.say)
    tally = Tally()
    await check_port("metrics", _host(load(WorkerSettings)), options.http_port, ANOTHER_PORT)
    if page:
        settings = load(AppSettings)
        await check_port("the page", settings.http_host, settings.http_port, ANOTHER_PAGE_PORT)
    try:
        await asyncio.to_thread(broker.start)
        with TemporaryDirectory(prefix="streamgauge-") as folder:
            listening = load(ListenerSettings, store=Path(folder) / "listener.sqlite", shard="0/1")
            await Demo(broker.bootstrap_servers, options, listening, tally, view, page).run(model, samples, stop)
    finally:
        await asyncio.to_thread(broker.stop)
    summary = tally.summary()
    for name, value in summary.items():
        view.say(f"{name:>15}  {value}")
    if options.as_json:
        print(json.dumps(summary))  # noqa: T201 - this is the output


def _host(settings: WorkerSettings) -> str:
    return settings.http_host if "http_host" in settings.model_fields_set else LOOPBACK


def planned_labels(label: str, classes: Classes, dice: random.Random) -> list[tuple[float, str]]:
    """When (seconds after publishing) which labels are sent for a text: some twice, some wrong and corrected later."""
    delay_s = dice.uniform(0.3, MAX_LABEL_DELAY_S)
    later_s = delay_s + dice.uniform(0.3, MAX_LABEL_DELAY_S)
    luck = dice.random()
    if luck < 0.05:
        return [(delay_s, label), (later_s, label)]
    if luck < 0.10:
        wrong = dice.choice([name for name in classes if name != label])
        return [(delay_s, wrong), (later_s, label)]
    return [(delay_s, label)]


class Labeller:
    """Sends each text's labels when they are due."""

    def __init__(self, publisher: Publisher, classes: Classes, tally: Tally) -> None:
        self._publisher, self._classes, self._tally = publisher, classes, tally
        self._due: list[tuple[float, int, Feedback, bool]] = []
        """When, in which order, what; and whether it is invented."""
        self._dice = random.Random(SEED)  # noqa: S311 - no secret
        self._count = itertools.count()

    def plan(self, sample: Sample, message_id: str) -> None:
        """Remember what to send for a text that was published just now."""
        if sample.label is None:
            return
        now_s = time.monotonic()
        for delay_s, label in planned_labels(sample.label, self._classes, self._dice):
            feedback = Feedback(id=message_id, label=label, source="demo")
            is_wrong = label != sample.label
            heapq.heappush(self._due, (now_s + delay_s, next(self._count), feedback, is_wrong))

    async def send_due(self, until_s: float) -> None:
        """Send, in order, what is due by `until_s` on the monotonic clock."""
        while self._due and self._due[0][0] <= until_s:
            _due_s, _number, feedback, is_wrong = heapq.heappop(self._due)
            await self._publisher.feedback(feedback)
            self._tally.labels += 1
            self._tally.invented_wrong += is_wrong
            self._tally.unknown_class += feedback.label not in self._classes


class Watcher:
    """Reads results and dead letters as any user would, from the topics, and counts them."""

    def __init__(self, consumer: AIOKafkaConsumer, topics: TopicSettings, tally: Tally) -> None:
        self._consumer, self._topics, self._tally = consumer, topics, tally

    async def watch(self) -> None:
        """Count until cancelled."""
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    if tp.topic == self._topics.dead_letter:
                        self._tally.dead_letters += 1
                    else:
                        self._add(record.value)

    def _add(self, value: bytes) -> None:
        prediction = decode_prediction(value)
        latency_s = time.time() - prediction.source.timestamp_ms / 1000
        self._tally.add_result(latency_s, time.monotonic())

    async def caught_up(self) -> None:
        """Wait until everything that is in the topics now has been counted."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        for tp, end in ends.items():
            while await self._consumer.position(tp) < end:  # noqa: ASYNC110 - aiokafka announces no moves
                await asyncio.sleep(TICK_S / 10)


class Demo:
    """One run against a broker."""

    def __init__(
        self,
        bootstrap_servers: str,
        options: DemoOptions,
        listening: ListenerSettings,
        tally: Tally,
        view: Screen,
        page: Page | None,
    ) -> None:
        self._kafka = load(KafkaSettings, bootstrap_servers=bootstrap_servers)
        self._topics = load(TopicSettings)
        self._options, self._listening, self._tally, self._view = options, listening, tally, view
        self._page = page

    async def run(self, model: OnnxModel, samples: Iterable[Sample], stop: asyncio.Event) -> None:
        """Create the topics, start the services, publish, settle, stop the services."""
        self._view.say(f"Apache Kafka is ready at {self._kafka.bootstrap_servers}; starting worker and listener")
        settings = load(WorkerSettings)
        async for _line in make_right(self._kafka, self._topics, settings.group, PARTITIONS, None, dry_run=False):
            pass
        registry = service_registry()
        worker = Worker(self._kafka, self._topics, settings, registry, model)
        listener = Listener(self._kafka, self._topics, self._listening, registry)
        worker_stop, listener_stop = asyncio.Event(), asyncio.Event()
        async with (
            serve_http(
                _host(settings),
                self._options.http_port,
                registry,
                live=lambda: worker.live() or listener.live(),
                ready=lambda: worker.ready() or listener.ready(),
                otherwise=ANOTHER_PORT,
            ) as metrics_port,
            self._watched(metrics_port),
            self._watcher() as watcher,
            asyncio.TaskGroup() as services,
        ):
            working = services.create_task(worker.run(worker_stop), name="worker")
            services.create_task(listener.run(listener_stop), name="listener")
            watching = services.create_task(watcher.watch(), name="watcher")
            looking = self._watch(metrics_port, settings.group)
            showing = [
                services.create_task(looking.run(), name="watch"),
                services.create_task(self._show(listener, looking), name="view"),
            ]
            services.create_task(self._serve_page(metrics_port, listener_stop), name="page")
            self._view.say(f"metrics: http://localhost:{metrics_port}/metrics")
            for line in ABOUT_LABELS, *([] if self._options.input_file else [ABOUT_THE_SAMPLE]):
                self._view.say(line)
            with self._view.running():
                await self._play(samples, model.labels, stop)
                await self._settle(stop)
                worker_stop.set()
                await working
                await watcher.caught_up()
                await listener.applied()
                self._judge(listener)
            for task in (watching, *showing):
                task.cancel()
            listener_stop.set()

    def _watched(self, metrics_port: int) -> AbstractAsyncContextManager[None]:
        programs = self._options.programs
        return watched(programs, metrics_port, self._view.say) if programs else nullcontext()

    @asynccontextmanager
    async def _watcher(self) -> AsyncIterator[Watcher]:
        consumer = AIOKafkaConsumer(isolation_level="read_committed", **client_options(self._kafka))
        await consumer.start()
        try:
            outputs = self._topics.results, self._topics.dead_letter
            partitions = [TopicPartition(topic, number) for topic in outputs for number in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            yield Watcher(consumer, self._topics, self._tally)
        finally:
            await close_consumer(consumer)

    async def _serve_page(self, metrics_port: int, stop: asyncio.Event) -> None:
        if self._page is None:
            self._view.say(
                "there is a web page too, to try it, label and watch; it needs its extra: in the project's folder, "
                "pip install '.[app]'"
            )
            return
        settings = load(AppSettings, listener_urls=f"http://{LOOPBACK}:{metrics_port}")
        say = self._view.say
        with suppress(Stopped):
            await self._page(self._kafka, self._topics, settings, stop, lambda url: say(f"the web page: {url}"))

    def _watch(self, port: int, group: str) -> Watch:
        url = f"http://{LOOPBACK}:{port}"
        return Watch(self._kafka, self._topics, group, Sources([url], [url], with_texts=True))

    async def _show(self, listener: Listener, watch: Watch) -> None:
        while True:
            self._judge(listener)
            self._view.update(lambda: watch.known.picture(time.monotonic(), self._tally.counts))
            await asyncio.sleep(TICK_S)

    def _judge(self, listener: Listener) -> None:
        snapshot = listener.snapshot()
        self._tally.judged, self._tally.correct = snapshot.judged, snapshot.correct

    async def _play(self, samples: Iterable[Sample], classes: Classes, stop: asyncio.Event) -> None:
        """Publish texts and their labels; labels that are not due yet at the end are sent at once."""
        enough = asyncio.Event()
        async with Publisher(self._kafka, self._topics, source="demo") as publisher, asyncio.TaskGroup() as tasks:
            labeller = Labeller(publisher, classes, self._tally)

            def on_sent(sample: Sample, message_id: str) -> None:
                self._tally.published += 1
                labeller.plan(sample, message_id)

            ending = tasks.create_task(_set_after(enough, stop, self._options.duration_s), name="duration")
            labelling = tasks.create_task(_send_labels(labeller, enough), name="labels")
            await publish(publisher.text, samples, Pace(self._options.rate_per_s), enough, on_sent)
            enough.set()
            ending.cancel()
            await labelling

    async def _settle(self, stop: asyncio.Event) -> None:
        """Wait until everything published has its outcome; not for long after Ctrl-C."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_AFTER_STOP_S if stop.is_set() else None) as limit:
                while self._tally.lag:
                    if stop.is_set() and limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + SETTLE_AFTER_STOP_S)
                    await asyncio.sleep(TICK_S)


async def _send_labels(labeller: Labeller, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await labeller.send_due(time.monotonic())
        await sleep_or_stop(enough, TICK_S)
    await labeller.send_due(float("inf"))


async def _set_after(enough: asyncio.Event, stop: asyncio.Event, duration_s: float | None) -> None:
    """Set `enough` when the duration is over or `stop` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            await stop.wait()
    enough.set()
