"""A listener whose broker is silent, or whose client has stopped fetching, says so."""

import signal
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from feedback_listener import catch_up, topic_reader
from feedback_listener.store import Store
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.errors import StreamgaugeError
from tests.cluster import Kafka, Stream, until
from tests.contract.test_listener import exported, listening, matrix, write_a_history


def names(registry: CollectorRegistry) -> set[str]:
    return {metric.name for metric in registry.collect() if metric.samples}


async def test_a_broker_that_does_not_answer_is_not_an_empty_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers and its lag are shown again when it answers; until then they are absent, and no probe says ok."""
    monkeypatch.setattr(topic_reader, "SILENT_S", 3.0)
    with EmbeddedKafka() as kafka:
        stream = await Stream.create(kafka.bootstrap_servers)
        await write_a_history(stream)
        async with listening(stream) as (listener, registry):
            ready, lag = exported(registry), listener.lag()
            assert listener.ready() is None
            assert len(lag) == 3 * stream.partitions
            [broker] = kafka.nodes
            broker.kill(signal.SIGSTOP)
            await until(lambda: len(listener.lag()) == 0)
            reason = listener.ready()
            assert reason is not None
            assert "no broker has answered for" in reason
            assert listener.live() is None, "a new process would not help"
            assert registry.get_sample_value("streamgauge_listener_ready") == 0
            assert not names(registry) & {"streamgauge_listener_lag_records", "streamgauge_predictions"}
            broker.kill(signal.SIGCONT)
            await until(lambda: listener.ready() is None)
            assert exported(registry) == ready
            broker.kill()
            await until(lambda: listener.ready() is not None)
            assert matrix(registry) == {}


async def test_a_store_that_takes_nothing_is_not_ready(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs: brokers answer, and the numbers stand still. It is not blamed on the brokers."""
    monkeypatch.setattr(catch_up, "UNWELL_S", 0.5)
    monkeypatch.setattr(catch_up, "STALLED_S", 1.0)
    stream = await Stream.create(kafka.bootstrap_servers)
    apply, writes = Store.apply, threading.Event()

    def held(self: Store, *arguments: Any) -> None:
        writes.wait()
        apply(self, *arguments)

    monkeypatch.setattr(Store, "apply", held)
    writes.set()
    async with listening(stream) as (listener, _registry):
        await until(lambda: (listener.ready(), listener.live()) == (None, None))
        writes.clear()
        try:
            await until(lambda: "the store has taken nothing for" in (listener.ready() or ""))
            await until(lambda: "the store has taken nothing for" in (listener.live() or ""))
        finally:
            writes.set()
        await until(lambda: (listener.ready(), listener.live()) == (None, None))


async def stop_fetching(stream: Stream) -> None:
    async with listening(stream) as (listener, _registry):
        assert listener._reader
        listener._reader._consumer._fetcher.error_future.cancel()
        await until(lambda: False)


async def test_a_client_that_has_stopped_fetching_ends_the_listener(kafka: Kafka) -> None:
    """aiokafka would find no records for ever, and say nothing: a new process reads on."""
    stream = await Stream.create(kafka.bootstrap_servers)
    with pytest.raises(ExceptionGroup) as raised:
        await stop_fetching(stream)
    assert raised.group_contains(StreamgaugeError, match="stopped fetching")
