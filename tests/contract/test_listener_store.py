"""The listener's store on a real Kafka: what a restart, a lost disk, another topic and other shards change: nothing."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from prometheus_client import CollectorRegistry

from feedback_listener import service
from feedback_listener.catch_up import CatchUp
from feedback_listener.records import Stream as Topic
from feedback_listener.service import Listener
from feedback_listener.settings import ListenerSettings
from feedback_listener.store import discard
from feedback_listener.totals import Positions
from streamgauge.errors import ConfigurationError
from streamgauge.kafka import admin_client
from tests.cluster import Kafka, Stream, until
from tests.contract.test_listener import exported, give_feedback, label, listening, predict, result, write_a_history


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a listener's store may be."""
    return tmp_path / "listener.sqlite"


async def test_a_restart_goes_on_and_a_lost_disk_begins_anew(kafka: Kafka, store: Path) -> None:
    """Both show the same, with what came meanwhile."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    async with listening(stream, store):
        pass
    await predict(stream, [result("more")])
    await give_feedback(stream, label("more", "NEGATIVE"), label("late", "POSITIVE", source="dora"))
    async with listening(stream, store) as (_listener, registry):
        after_restart = exported(registry)
    discard(store)
    async with listening(stream, store) as (_listener, registry):
        assert exported(registry) == after_restart
    async with listening(stream) as (_listener, registry):
        assert exported(registry) == after_restart


async def test_a_store_that_breaks_is_thrown_away_while_it_runs(kafka: Kafka, store: Path) -> None:
    """The listener reads the topics again by itself, and ends with the same numbers."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    async with listening(stream, store) as (listener, registry):
        before = exported(registry)
        assert listener._store
        database = listener._store._tables._db
        await asyncio.wrap_future(listener._thread.submit(_break, database))
        await give_feedback(stream, label("nobody", "POSITIVE"))
        await until(lambda: listener.ready() is not None)
        await listener.applied()
        assert sum(n for (name, _labels), n in exported(registry).items() if name == "streamgauge_labels") == 7
        judged = {key: n for key, n in before.items() if "judged" in key[0]}
        assert judged.items() <= exported(registry).items()


def _break(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'labels'")
    database.execute("PRAGMA writable_schema = RESET")


@pytest.mark.parametrize("running", [False, True], ids=["while it is down", "while it runs"])
async def test_a_topic_made_again_is_another_topic(
    kafka: Kafka, store: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """Its offsets may look the same: its id does not, and what the store knows of the old one is forgotten."""
    monkeypatch.setattr(service, "IDENTITY_CHECK_S", 0.2)
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    await predict(stream, [result("a"), result("b")])
    await give_feedback(stream, label("a", "POSITIVE"), label("b", "POSITIVE"))
    async with listening(stream, store) as (listener, _registry):
        assert listener.snapshot() == (2, 2)
        if running:
            await _make_again(stream)
            await until(lambda: listener.ready() is not None)
            await predict(stream, [result("b")])
            await listener.applied()
            assert listener.snapshot() == (1, 1)
    if not running:
        await _make_again(stream)
        await predict(stream, [result("b"), result("c"), result("d")])
        async with listening(stream, store) as (listener, _registry):
            assert listener.snapshot() == (1, 1)


async def _make_again(stream: Stream) -> None:
    async with admin_client(stream.kafka) as admin:
        name = stream.topics.results
        await admin.delete_topics([name])
        config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1", "retention.bytes": "-1"}
        while True:
            [(_name, code, *_message)] = (
                await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
            ).topic_errors
            if not code:
                return


async def test_a_second_listener_on_one_file_is_refused(
    kafka: Kafka, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the setting; the first goes on."""
    monkeypatch.setattr("feedback_listener.database.LOCK_TIMEOUT_S", 0.1)
    stream = await Stream.create(kafka.bootstrap_servers)
    async with listening(stream, store) as (listener, _registry):
        with pytest.raises(ExceptionGroup) as raised:
            async with listening(stream, store):
                pytest.fail("two listeners on one file")
        assert raised.group_contains(
            ConfigurationError, match="STREAMGAUGE_LISTENER_STORE=.*another listener has it open"
        )
        await write_a_history(stream)
        await listener.applied()
        assert listener.snapshot() == (3, 1)


@pytest.mark.parametrize("shards", [2, 3])
async def test_shards_and_copies_show_the_same_as_one_listener(kafka: Kafka, tmp_path: Path, shards: int) -> None:
    """The maximum over two copies of each shard, but for ratios and who they are; one is started again midway."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=4)
    for partition in (2, 3):
        await predict(stream, [result(f"p{partition}"), result("late")], partition=partition)
    async with AsyncExitStack() as stack:
        alone, registry = await stack.enter_async_context(listening(stream))
        names = [(shard, copy) for shard in range(shards) for copy in "ab"]
        copies = {
            name: await stack.enter_async_context(listening(stream, tmp_path / f"{name}", shard=f"{name[0]}/{shards}"))
            for name in names[1:]
        }
        await write_a_history(stream)
        late = listening(stream, tmp_path / f"{names[0]}", shard=f"0/{shards}")
        copies[names[0]] = await stack.enter_async_context(late)
        seen: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for listener, its_registry in [*copies.values(), (alone, None)]:
            await listener.applied()
            for key, n in exported(its_registry).items() if its_registry else ():
                seen[key] = max(n, seen.get(key, 0))
        own = ("ml_", "streamgauge_listener_shards")
        assert {key: n for key, n in seen.items() if not key[0].startswith(own)} == {
            key: n for key, n in exported(registry).items() if not key[0].startswith(own)
        }


class ReadyByLastRecord(CatchUp):
    """Wrong on purpose: takes the last record's offset + 1 for how far the listener has come."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self.asked = 0

    def come(self, positions: Positions, *others: Any) -> None:
        self.asked += 1
        assert self._listener._store
        one = self._listener._store._tables.one
        last = {
            (stream, partition): one(f'SELECT max("offset") + 1 FROM {table} WHERE partition = ?', (partition,)) or 0
            for stream, table in ((Topic.RESULTS, "predictions"), (Topic.FEEDBACK, "labels"))
            for partition in range(2)
        }
        super().come(last, *others)


async def test_readiness_by_the_last_record_never_comes(kafka: Kafka, store: Path, tmp_path: Path) -> None:
    """The control: transactions end with a marker, so the last record never stands at the end."""
    stream, stop = await Stream.create(kafka.bootstrap_servers), asyncio.Event()
    await write_a_history(stream)
    async with listening(stream, store) as (right, _registry):
        positions = dict(right.totals.positions)
    settings = ListenerSettings(store=tmp_path / "wrong.sqlite")
    listener = Listener(stream.kafka, stream.topics, settings, CollectorRegistry())
    listener._catch_up = wrong = ReadyByLastRecord(listener)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.run(stop))
        await until(lambda: listener.totals.positions == positions)
        asked = wrong.asked
        await until(lambda: wrong.asked > asked + 3)
        assert listener.ready() is not None
        stop.set()
