"""All that the page's sessions share, on one event loop: what is sent, what is read, what is asked for."""

import asyncio
import random
import time
import uuid
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError

from feedback_listener.reconcile import read_metrics, scrape
from feedback_listener.recount_records import Values
from producer.corpus import Sample
from streamgauge.commands.audit_queue import read_unlabelled
from streamgauge.commands.page import prometheus
from streamgauge.commands.page.choosing import Chooser, Item
from streamgauge.commands.page.flow import bucket_of
from streamgauge.commands.page.history import Point, accuracies
from streamgauge.commands.page.outbox import Delivery, Outbox
from streamgauge.commands.page.recent import Judgement, Seen
from streamgauge.commands.page.settings import AppSettings
from streamgauge.commands.page.shelf import Shelf
from streamgauge.commands.page.tailing import Tail
from streamgauge.errors import StreamgaugeError
from streamgauge.events import Feedback, Position
from streamgauge.lifecycle import clock_ms
from streamgauge.settings import KafkaSettings, TopicSettings

log = structlog.get_logger(__name__)

AUDIT_EVERY_S = 20.0
SAMPLE_EVERY_S = 5.0
SILENT_S = 8.0
"""A broker answers every two seconds; a busy machine takes some."""
UNSENT_S = 2.0
"""At the end, for what is on its way."""
MIX_S = 300.0


class Answer(NamedTuple):
    """What is known of a text that was sent."""

    seen: Seen | None = None
    dead_letter: str | None = None
    """Why it could not be scored."""
    is_delivered: bool = False
    """Kafka has it."""
    problem: str | None = None
    """Why Kafka refused it."""
    given: str | None = None
    """The last label that it has got, from anybody."""
    ahead: int | None = None
    """Texts that wait for a worker, this one among them."""


class Watched(NamedTuple):
    """What the charts are made of."""

    points: list[Point]
    mix: dict[str, float]
    """Predicted classes of the last minutes, as shares."""
    judgements: list[tuple[Judgement, str | None]]
    """The last ones, with their texts as far as they can be read."""
    problem: str | None
    """Why there is no accuracy."""


class Room:
    """One for the process."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, settings: AppSettings) -> None:
        self._kafka, self._topics, self._settings = kafka, topics, settings
        self.outbox = Outbox(kafka, topics)
        self.tail = Tail(kafka, topics)
        self.shelf = Shelf(kafka, topics.input)
        self._chooser = Chooser(random.Random())  # noqa: S311 - no secret
        self._is_labelling = asyncio.Event()
        self._was_read = asyncio.Event()
        self._listener_problem: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then what is on its way has UNSENT_S."""
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                works = (self.outbox.run(), self.tail.run(), self._read_audit(), self._sample())
                tasks = [group.create_task(work) for work in works]
                await stop.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(UNSENT_S):
                        await self.outbox.emptied()
                for task in tasks:
                    task.cancel()
        finally:
            await self.shelf.close()
        if self.outbox.waiting:
            log.error("page.unsent", records=self.outbox.waiting)

    @property
    def has_prometheus(self) -> bool:
        return bool(self._settings.prometheus_url)

    async def trouble(self) -> str | None:
        """Why nothing moves, in words for the person who waits."""
        silent_s = max(self.tail.silent_s, self.outbox.waited_s)
        if silent_s < SILENT_S:
            return None
        return (
            f"Kafka at {self._kafka.bootstrap_servers} has not answered for {silent_s:.0f} s. "
            "Texts and labels are kept here, and are sent once when it is back, if this program is not ended before. "
            f"Not sent yet: {self.outbox.waiting}."
        )

    async def send_text(self, message_id: str, text: str) -> None:
        """Under an id of its own, which is also what a second click is known by."""
        self.outbox.put(message_id, lambda publisher: publisher.text(Sample(text, id=message_id)))

    async def answer(self, message_id: str, wait_s: float) -> Answer:
        """What is known of it once it has an outcome, or after `wait_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self.tail.moved:
                await self.tail.moved.wait_for(partial(self._is_over, message_id))
        recent, delivery = self.tail.recent, self.outbox.get(message_id)
        return Answer(
            recent.results.get(message_id),
            recent.dead_letters.get(message_id),
            delivery is None or delivery.is_delivered,
            delivery.problem if delivery else None,
            given.label if (given := recent.labels.get(message_id)) else None,
            self.tail.lag,
        )

    def _is_over(self, message_id: str) -> bool:
        recent, delivery = self.tail.recent, self.outbox.get(message_id)
        is_refused = delivery is not None and delivery.problem is not None
        return is_refused or message_id in recent.results or message_id in recent.dead_letters

    async def label(self, key: str, feedback: Feedback, wait_s: float) -> bool:
        """Send a label, unless that was done under this key; whether Kafka has it after `wait_s`.

        Raises StreamgaugeError when Kafka refused it.
        """
        delivery: Delivery = self.outbox.put(key, lambda publisher: publisher.feedback(feedback))
        self._chooser.done(feedback.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await delivery.settled.wait()
        if delivery.problem:
            raise StreamgaugeError(delivery.problem)
        return delivery.is_delivered

    async def next_item(self, labeller: str) -> tuple[Item, str] | None:
        """The next text for this labeller; None when there is none.

        Raises StreamgaugeError when Kafka is silent.
        """
        self._is_labelling.set()
        await self._was_read.wait()
        while item := self._chooser.next(labeller, self.tail.recent, time.monotonic()):
            text = await self.shelf.text(item.source, self.tail.partitions[self._topics.input])
            if text is not None:
                return item, text
            self._chooser.done(item.id)
        return None

    async def skip(self, labeller: str, message_id: str) -> None:
        self._chooser.skip(labeller, message_id)

    async def audit_left(self) -> int:
        return self._chooser.audit_left(self.tail.recent)

    async def watch(self, window: str, span_s: float, judgements: int) -> Watched:
        """The charts of the last `span_s`, from Prometheus if there is one; and the last so many judgements."""
        now_s, problem = time.time(), self._listener_problem
        points: list[Point] = []
        if self._settings.prometheus_url:
            try:
                points = await prometheus.history(self._settings.prometheus_url, window, span_s, now_s)
            except StreamgaugeError as error:
                problem = str(error)
        else:
            points = self.tail.samples.points(self.tail.flow, window, now_s)
        found = [(one, await self.text(one.seen.source)) for one in self.tail.recent.judgements(judgements)]
        return Watched(points, self.tail.flow.mix(now_s - MIX_S), found, problem)

    async def text(self, source: Position) -> str | None:
        """None when it is not retained any more, or cannot be read just now."""
        try:
            return await self.shelf.text(source, self.tail.partitions[self._topics.input])
        except StreamgaugeError:
            return None

    async def _read_audit(self) -> None:
        """What is to be labelled of the audit, read anew now and then while somebody labels."""
        while True:
            await self._is_labelling.wait()
            self._is_labelling.clear()
            await self.tail.caught_up.wait()
            try:
                unlabelled = await read_unlabelled(self._kafka, self._topics, self.tail.partitions, clock_ms())
            except (StreamgaugeError, KafkaError) as error:
                log.warning("page.audit_not_read", problem=repr(error))
            else:
                self._chooser.audit(unlabelled, self.tail.recent)
                self._was_read.set()
            await asyncio.sleep(AUDIT_EVERY_S)

    async def _sample(self) -> None:
        """What listeners say, every few seconds."""
        while True:
            try:
                numbers = await self._numbers()
            except StreamgaugeError as error:
                self._listener_problem = str(error)
            else:
                self._listener_problem = None
                self.tail.samples.accuracies[bucket_of(time.time())] = accuracies(numbers)
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def _numbers(self) -> Values:
        """Of all listeners: the parts of several shards, and of copies the larger number."""
        numbers: Values = {}
        for url in self._settings.listeners:
            text = await scrape(url)
            scraped = await asyncio.to_thread(read_metrics, url, text)
            for series, value in scraped.numbers.items():
                numbers[series] = max(value, numbers.get(series, value))
        return numbers


def new_id() -> str:
    """Of a message, and of whatever must be known again."""
    return f"page/{uuid.uuid4().hex}"
