"""Workers and listeners killed again and again: at the end every number is the generator's own."""

import itertools
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from feedback_listener.reconcile import Scraped
from feedback_listener.store import discard
from tests.cluster import ROOT, Kafka, Stream
from tests.contract.test_listener import write_a_history
from tests.echo import LABELS, echo_probability
from tests.faults.listeners import ListenerProcess, reconciled
from tests.faults.replica import Replica
from tests.faults.scenario import SETTINGS
from tests.faults.worker_process import AUDIT_SHARE
from worker.audit import Audit

pytestmark = pytest.mark.faults

PARTITIONS = 4
CHUNK, CHUNKS = 160, 8
SEED = 20261125

Cell = tuple[str, str, str]
"""Results partition, expected class, predicted class."""


class Labelling:
    """Publishes texts, with labels before and after them, again, corrected, missing; knows what must come out."""

    def __init__(self, stream: Stream, producer: AIOKafkaProducer) -> None:
        self._stream, self._producer, self._dice = stream, producer, random.Random(SEED)
        self.cells: Counter[Cell] = Counter()
        self.predictions: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.audit: Counter[str] = Counter()
        """Predictions that are in it, those that are judged, and those that are right."""
        self.unmatched = 0

    async def publish(self, chunk: int) -> None:
        late: list[tuple[str, str, str]] = []
        for number in range(CHUNK):
            message_id, partition = f"{chunk}/{number}", number % PARTITIONS
            text = f"text {chunk} {number}"
            labels = self._plan(message_id, partition, LABELS[echo_probability(text) > 0.5])
            early = labels[: self._dice.randint(0, len(labels))]
            for label in early:
                await self._label(*label)
            value = msgspec.json.encode({"id": message_id, "text": text})
            await self._producer.send(self._stream.topics.input, value, partition=partition)
            late += labels[len(early) :]
        await self._label(f"{chunk}/nobody", "POSITIVE", "anna")
        self.unmatched += 1
        for label in late:
            await self._label(*label)
        await self._producer.flush()

    def _plan(self, message_id: str, partition: int, predicted: str) -> list[tuple[str, str, str]]:
        """The labels of a text, in order; what they come to is added to what must come out."""
        count = self._dice.choice([0, 1, 1, 1, 2, 3])
        labels = [(self._dice.choice([*LABELS, "BORED"]), self._dice.choice(["anna", "ben"])) for _ in range(count)]
        self.predictions[str(partition)] += 1
        known = [label for label in labels if label[0] in LABELS]
        self.outcomes["unknown_class"] += len(labels) - len(known)
        for earlier, later in itertools.pairwise(known):
            change = "correction" if earlier[1] == later[1] else "conflict"
            self.outcomes["duplicate" if earlier[0] == later[0] else change] += 1
        if known:
            self.cells[str(partition), known[-1][0], predicted] += 1
        if Audit(AUDIT_SHARE, "").share_of(message_id):
            is_right = bool(known) and known[-1][0] == predicted
            self.audit.update(predictions=1, judged=bool(known), correct=is_right)
        return [(message_id, *label) for label in labels]

    async def _label(self, message_id: str, label: str, source: str) -> None:
        """Labels of one id have one key, so one partition and one order."""
        value = msgspec.json.encode({"id": message_id, "label": label, "source": source})
        await self._producer.send(self._stream.topics.feedback, value, key=message_id.encode())


async def ends(stream: Stream) -> dict[tuple[str, int], int]:
    async with AIOKafkaConsumer(
        bootstrap_servers=stream.kafka.bootstrap_servers, isolation_level="read_committed"
    ) as consumer:
        names = stream.topics.joined
        tps = [TopicPartition(name, partition) for name in names for partition in range(PARTITIONS)]
        return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(tps)).items()}


def total(shown: list[Scraped], name: str, *by: str) -> Counter[tuple[str, ...]]:
    """A series over the whole window, summed by some of its labels."""
    found: Counter[tuple[str, ...]] = Counter()
    for listener in shown:
        for (series, pairs), n in listener.numbers.items():
            labels = dict(pairs)
            if series == f"streamgauge_{name}" and labels.get("window", "all") == "all":
                found[tuple(labels[label] for label in by)] += round(n)
    return found


@pytest.mark.timeout(240)
async def test_every_number_is_right_after_a_storm(kafka: Kafka, tmp_path: Path) -> None:
    """Two workers and two listeners, one of the four killed after each chunk; and `reconcile` agrees.

    Each listener has the whole audit, to the last label.
    """
    stream = await Stream.create(kafka.bootstrap_servers, partitions=PARTITIONS)
    dice = random.Random(SEED)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(Replica(stream, name, tmp_path, holds=False, settings=SETTINGS))
            for name in "ab"
        ]
        listeners = [
            await stack.enter_async_context(ListenerProcess(stream, tmp_path, shard)) for shard in ("0/2", "1/2")
        ]
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers))
        labelling = Labelling(stream, producer)
        kills = [*(2 * ["worker 0", "worker 1", "listener 0", "listener 1"])]
        dice.shuffle(kills)
        for chunk, kill in enumerate(kills[:CHUNKS]):
            await labelling.publish(chunk)
            kind, number = kill.split()
            await (workers if kind == "worker" else listeners)[int(number)].restart()
        await stream.all_committed(CHUNK * CHUNKS // PARTITIONS)
        at = await ends(stream)
        shown = [await listener.shown_at(at) for listener in listeners]
        report = await reconciled(stream, [await listener.url() for listener in listeners])
    assert total(shown, "judged_predictions", "partition", "expected", "predicted") == labelling.cells
    assert total(shown, "predictions", "partition") == {(key,): n for key, n in labelling.predictions.items()}
    assert total(shown, "prediction_labels", "outcome") == {(key,): n for key, n in labelling.outcomes.items()}
    [labels] = {total([one], "labels")[()] for one in shown}
    assert labels - total(shown, "matched_labels")[()] == labelling.unmatched
    for one in shown:
        assert {name: total([one], f"audit_{name}")[()] for name in labelling.audit} == labelling.audit
    assert 0.4 < labelling.audit["predictions"] / (CHUNK * CHUNKS) < 0.6
    assert report["differences"] == []
    print(report)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "positions from Kafka"])
async def test_positions_belong_to_the_rows(kafka: Kafka, tmp_path: Path, wrong: bool) -> None:
    """A listener that goes on where it committed to Kafka does not notice that its rows are gone: caught."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=PARTITIONS)
    await write_a_history(stream)
    at = await ends(stream)
    async with ListenerProcess(stream, tmp_path, positions_from_kafka=wrong) as listener:
        before = (await listener.shown_at(at)).numbers
        await listener.kill()
        discard(listener.store)
        await listener.restart()
        after = (await listener.shown_at(at)).numbers
    assert before
    assert (after == before) is not wrong


async def test_reconcile_names_what_is_wrong(kafka: Kafka, tmp_path: Path) -> None:
    """A count that was changed behind the listener's back is found, and nothing else."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=PARTITIONS)
    await write_a_history(stream)
    at = await ends(stream)
    async with ListenerProcess(stream, tmp_path) as listener:
        await listener.shown_at(at)
        assert (await reconciled(stream, [await listener.url()]))["differences"] == []
        await listener.kill()
        with sqlite3.connect(listener.store) as database:
            database.execute("UPDATE outcomes SET conflict = conflict + 1 WHERE partition = 0")
        database.close()
        await listener.restart()
        await listener.shown_at(at)
        found = (await reconciled(stream, [await listener.url()]))["differences"]
    assert {difference["series"].partition("{")[0] for difference in found} == {"streamgauge_prediction_labels"}
    assert len(found) == 4  # a window each
    assert all(difference["shown"] == difference["recounted"] + 1 for difference in found)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "counts apart from rows"])
def test_a_death_at_any_statement_changes_no_number(tmp_path: Path, wrong: bool) -> None:
    """A process is killed at each statement in turn; counts in a transaction of their own are caught."""
    command = [sys.executable, "-m", "tests.faults.dying_store", str(tmp_path), *(["--wrong"] if wrong else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if wrong else 0), done.stdout + done.stderr
    assert int(done.stdout.split()[-2]) > 100
