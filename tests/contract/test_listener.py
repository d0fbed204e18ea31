"""The listener on a real Kafka: committed records only, the same numbers at every start, new partitions, refusals."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from feedback_listener import topic_reader
from feedback_listener.service import Listener, serve
from feedback_listener.settings import ListenerSettings
from streamgauge.errors import ConfigurationError
from streamgauge.events import Feedback, ModelRef, Position, Prediction, Timings, encode
from streamgauge.lifecycle import CLOCK, Clock
from streamgauge.settings import TopicSettings
from tests.cluster import Kafka, Stream

CELL = tuple[str, str, str]
PASSING = ("streamgauge_listener_time_seconds", "streamgauge_listener_store_bytes", "streamgauge_listener_lag_records")


def result(
    message_id: str, predicted: str = "POSITIVE", model: str = "1", classes: Sequence[str] = ("NEGATIVE", "POSITIVE")
) -> bytes:
    scores = dict.fromkeys(classes, 0.1) | {predicted: 0.9}
    return encode(
        Prediction(
            id=message_id,
            label=predicted,
            score=0.9,
            scores=scores,
            model=ModelRef(name="m", version=model, digest="sha256:0"),
            timings=Timings(tokenize_s=0, queue_s=0, infer_s=0),
            source=Position(topic="t", partition=0, offset=0, timestamp_ms=0),
            tokens=3,
            truncated=False,
        )
    )


def label(message_id: str, value: str, source: str = "anna") -> bytes:
    return encode(Feedback(id=message_id, label=value, source=source))


@asynccontextmanager
async def listening(
    stream: Stream, store: Path | None = None, *, shard: str = "0/1", clock: Clock = CLOCK
) -> AsyncIterator[tuple[Listener, CollectorRegistry]]:
    """A listener that has caught up when the block begins, and is stopped after it; without a store: a new one."""
    registry, stop = CollectorRegistry(), asyncio.Event()
    with TemporaryDirectory(prefix="streamgauge-") as folder:
        settings = ListenerSettings(store=store or Path(folder) / "listener.sqlite", shard=shard)
        listener = Listener(stream.kafka, stream.topics, settings, registry, clock)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.run(stop))
            await listener.applied()
            yield listener, registry
            stop.set()


async def predict(
    stream: Stream, values: Sequence[bytes], *, partition: int = 0, abort: bool = False, audited: int = 0
) -> None:
    """One transaction, committed or aborted; each ends with a marker, which is an offset without a record.

    So many of the values are in the audit as well.
    """
    async with AIOKafkaProducer(
        bootstrap_servers=stream.kafka.bootstrap_servers, transactional_id=f"{stream.group}-{partition}"
    ) as producer:
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(stream.topics.results, value, partition=partition)
        for value in values[:audited]:
            await producer.send_and_wait(stream.topics.audit, value, partition=partition)
        await (producer.abort_transaction() if abort else producer.commit_transaction())


async def give_feedback(stream: Stream, *values: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        for number, value in enumerate(values):
            await producer.send_and_wait(stream.topics.feedback, value, key=b"k", partition=number % stream.partitions)


def exported(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample that does not depend on the second it is read in."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if metric.name not in PASSING and sample.labels.get("window", "all") == "all"
    }


def matrix(registry: CollectorRegistry) -> dict[CELL, float]:
    """Judged predictions over the whole retention by model, expected and predicted class, where there are any."""
    found: dict[CELL, float] = {}
    for (name, labels), n in exported(registry).items():
        if name == "streamgauge_judged_predictions" and n:
            where = dict(labels)
            cell = where["model"], where["expected"], where["predicted"]
            found[cell] = found.get(cell, 0) + n
    return found


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of a series over the labels that are not given."""
    return sum(
        n
        for (series, its_labels), n in exported(registry).items()
        if series == f"streamgauge_{name}" and labels.items() <= dict(its_labels).items()
    )


async def write_a_history(stream: Stream) -> None:
    """Labels before, after, twice and corrected; aborted predictions, one of them the last thing in its partition."""
    await give_feedback(stream, label("early", "NEGATIVE"))
    await predict(stream, [result("early"), result("late")], audited=1)
    await predict(stream, [result("late"), result("aborted")], abort=True)
    await predict(stream, [result("late", "NEGATIVE", model="2"), b"{}"], partition=1, audited=2)
    await predict(stream, [result("aborted")], partition=1, abort=True, audited=1)
    await give_feedback(
        stream,
        label("late", "POSITIVE"),
        label("aborted", "POSITIVE"),
        label("late", "POSITIVE", source="ben"),
        b"POSITIVE",
        None,
    )
    await give_feedback(stream, label("late", "NEGATIVE", source="cleo"), label("early", "BORED"))


async def test_committed_records_count_once_in_whatever_order_they_come(kafka: Kafka) -> None:
    """A listener there all along and one that starts later export the same, and nothing of what was aborted."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with listening(stream) as (listener, registry):
        assert matrix(registry) == {}
        await write_a_history(stream)
        await listener.applied()
        assert matrix(registry) == {
            ("m@1", "NEGATIVE", "POSITIVE"): 2,
            ("m@2", "NEGATIVE", "NEGATIVE"): 1,
        }
        labels = {
            outcome: total(registry, "prediction_labels", outcome=outcome)
            for outcome in ("duplicate", "correction", "conflict", "unknown_class")
        }
        # Each label of "late" is one of both its predictions, which are of two models.
        assert labels == {"duplicate": 2, "correction": 0, "conflict": 2, "unknown_class": 1}
        # A label counts as matched in each partition that has a prediction of its id.
        assert total(registry, "labels", age="recent") == 6
        assert total(registry, "matched_labels", partition="0") == 5
        assert total(registry, "matched_labels", partition="1") == 3
        assert total(registry, "feedback_refused", reason="broken_json") == 1
        assert total(registry, "feedback_refused", reason="null_value") == 1
        assert total(registry, "results_refused", reason="invalid_field") == 1
        accuracy = registry.get_sample_value("ml_model_accuracy", {"model": "m@1", "window": "5m"})
        assert accuracy == 0
        assert listener.snapshot() == (3, 1)
        assert listener.live() is None
        async with listening(stream) as (_later, its_registry):
            assert exported(its_registry) == exported(registry)


@pytest.mark.parametrize("classes", [("neg", "neu", "pos"), ("0", "1", "2", "3", "4")], ids=["words", "stars"])
async def test_the_classes_are_those_of_the_results(kafka: Kafka, classes: tuple[str, ...]) -> None:
    """Whatever a model calls its classes; a label that is none of them judges nothing, and is counted and logged."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await predict(stream, [result(f"m{n}", predicted, classes=classes) for n, predicted in enumerate(classes)])
    await give_feedback(stream, *(label(f"m{n}", expected) for n, expected in enumerate(classes)))
    await give_feedback(
        stream, label("m0", classes[-1].upper() + "!"), label("m1", classes[0]), label("m0", "POSITIVE")
    )
    async with listening(stream) as (_listener, registry):
        right = {("m@1", name, name): 1 for name in classes if name != classes[1]}
        assert matrix(registry) == right | {("m@1", classes[0], classes[1]): 1}
        assert total(registry, "prediction_labels", outcome="unknown_class") == 2
        accuracy = registry.get_sample_value("ml_model_accuracy", {"model": "m@1", "window": "5m"})
        assert accuracy == pytest.approx((len(classes) - 1) / len(classes))


async def test_partitions_that_are_added_are_read(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """More partitions need no restart, and nothing is read twice for it."""
    monkeypatch.setattr(topic_reader, "METADATA_MAX_AGE_MS", 100)
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    async with listening(stream) as (listener, registry):
        await predict(stream, [result("a")])
        await stream.grow(2, stream.topics.results)
        await predict(stream, [result("b")], partition=1)
        await give_feedback(stream, label("a", "POSITIVE"), label("b", "POSITIVE"))
        added = {"topic": stream.topics.results, "partition": "1"}
        while registry.get_sample_value("streamgauge_listener_position", added) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await listener.applied()
        assert matrix(registry) == {("m@1", "POSITIVE", "POSITIVE"): 2}


async def test_what_is_older_than_the_window_is_not_read(kafka: Kafka) -> None:
    """A listener that starts after the window has passed begins at the end, and is ready."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    a_month_later_ms = CLOCK.wall_ms() + 30 * 86_400_000
    async with listening(stream, clock=Clock(wall_ms=lambda: a_month_later_ms)) as (listener, registry):
        assert listener.ready() is None
        assert total(registry, "labels") == 0
        assert listener.snapshot() == (0, 0)


async def test_it_is_served_over_http(kafka: Kafka, tmp_path: Path) -> None:
    """`/readyz` turns to 200 once the topics are read, and `/metrics` has the numbers."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ListenerSettings(http_host="127.0.0.1", http_port=port, store=tmp_path / "listener.sqlite")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession(f"http://127.0.0.1:{settings.http_port}") as http:
        tasks.create_task(serve(stream.kafka, stream.topics, settings, stop))
        while True:
            try:
                async with http.get("/readyz") as ready:
                    if ready.status == 200:
                        break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)
        async with http.get("/metrics") as metrics:
            assert "streamgauge_listener_ready 1.0" in await metrics.text()
        stop.set()


async def test_missing_topics_stop_the_start(kafka: Kafka, tmp_path: Path) -> None:
    """The error names the topic, and the command that makes it."""
    stream = await Stream.create(kafka.bootstrap_servers)
    elsewhere = TopicSettings(prefix="nowhere")
    listener = Listener(stream.kafka, elsewhere, ListenerSettings(store=tmp_path / "x"), CollectorRegistry())
    with pytest.raises(ExceptionGroup) as raised:
        await listener.run(asyncio.Event())
    expected = r"nowhere\.results does not exist(.|\n)*run: streamgauge topics create"
    assert raised.group_contains(ConfigurationError, match=expected)


async def test_the_event_loop_has_its_turn_after_each_poll(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has been fetched: a scrape does not wait until all of it has been read."""
    stream = await Stream.create(kafka.bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap_servers) as producer:
        labels = [label(str(number), "POSITIVE") for number in range(10 * topic_reader.SLICE_RECORDS)]
        sent = [await producer.send(stream.topics.feedback, value, partition=0) for value in labels]
        await asyncio.gather(*sent)
    polls = most = 0
    poll = topic_reader.TopicReader.poll

    async def counted(self: topic_reader.TopicReader, timeout_ms: int) -> object:
        nonlocal polls
        polls += 1
        return await poll(self, timeout_ms)

    async def watch() -> None:
        nonlocal most
        while True:
            before = polls
            await asyncio.sleep(0)
            most = max(most, polls - before)

    monkeypatch.setattr(topic_reader.TopicReader, "poll", counted)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        async with listening(stream):
            watching.cancel()
    assert polls >= 10
    assert most == 1
