"""The private parts of aiokafka that are used are there in the installed version, and do what they are used for."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import BrokerMetadata, TopicPartition

from streamgauge import aiokafka_private as private
from streamgauge import aiokafka_records
from streamgauge.kafka import close_consumer, close_producer


async def test_a_producer_can_be_given_up() -> None:
    """It takes nothing more; its sender's task can be asked for, and it has no transaction that could end."""
    producer = AIOKafkaProducer(enable_idempotence=True, bootstrap_servers="127.0.0.1:1")
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"x")
    private.fail_unsent(producer, KafkaError("given up"))
    with pytest.raises(KafkaError, match="given up"):
        await producer._message_accumulator.add_batch(batch, TopicPartition("topic", 0), timeout=1)
    assert private.sender_task(producer) is None
    assert private.transaction_end(producer) is None
    await close_producer(producer)


async def test_what_waits_to_be_sent_again_can_be_failed() -> None:
    """Without an exception in a callback, which asyncio would log with its traceback."""
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    accumulator, tp = producer._message_accumulator, TopicPartition("topic", 0)
    future = await accumulator.add_message(tp, None, b"x", timeout=1)
    batch = accumulator._pop_batch(tp)
    accumulator.reenqueue(batch)
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    private.fail_unsent(producer, KafkaError("given up"))
    with pytest.raises(KafkaError, match="given up"):
        await future
    await close_producer(producer)
    assert problems == []


async def test_the_end_of_a_transaction_can_be_asked_for() -> None:
    """Before the first one there is none."""
    producer = AIOKafkaProducer(transactional_id="t", bootstrap_servers="127.0.0.1:1")
    assert private.transaction_end(producer) is None
    producer._txn_manager.set_pid_and_epoch(1, 0)
    producer._txn_manager.begin_transaction()
    end = private.transaction_end(producer)
    assert end is not None
    assert not end.done()
    await close_producer(producer)


def test_the_size_of_a_batch_is_that_of_what_is_sent() -> None:
    """To the byte, as a batch is built of it."""
    headers = [("a", b"1"), ("b", None)]
    assert aiokafka_records.batch_bytes(None, None, [(aiokafka_records.RawName(b"\xff"), b"")]) > 0
    batch = DefaultRecordBatchBuilder(2, 0, 1, 1, 1, 1, 0)
    batch.append(0, 1_000, b"k", b"v" * 300, headers)
    assert aiokafka_records.batch_bytes(b"k", b"v" * 300, headers) == len(batch.build())


def test_the_admin_client_sends_what_it_has_no_method_for() -> None:
    """`topic_ids` needs a version of Metadata that it does not know."""
    assert callable(AIOKafkaAdminClient._send_request)


async def test_any_broker_that_can_be_reached_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three, two of which cannot: whichever comes first. One that was named is asked alone."""
    asked: list[int] = []

    class Client:
        cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=number) for number in range(3)])

        def get_random_node(self) -> int:
            return 0

        async def send(self, node_id: int, _request: object) -> str:
            asked.append(node_id)
            if node_id < 2:
                raise NodeNotReadyError
            return "answer"

    admin, request = private.AdminClient(bootstrap_servers="127.0.0.1:1"), MetadataRequest([])
    monkeypatch.setattr(admin, "_client", Client())
    for _attempt in range(20):
        assert await private.send(admin, request) == "answer"
    assert {0, 1} < set(asked)
    for answers in (private.send(admin, request, 1), private.send(admin, request, 0)):
        with pytest.raises(NodeNotReadyError):
            await answers


def fetched(*records: tuple[bytes | None, list[tuple[str, bytes | None]]], compression: int = 0) -> list[Any]:
    """These values with their headers in one batch, as a consumer reads it."""
    batch = aiokafka_records._PythonBatch(Accumulator(compression), is_transactional=False)
    for value, headers in records:
        batch.append(timestamp=5, key=b"key", value=value, headers=headers)
    answer = fetcher.MemoryRecords(bytes(batch._build()))
    assert answer.has_next()
    return list(answer.next_batch())


class Accumulator:
    """What a producer's batch is made from."""

    _batch_size = 2**21

    def __init__(self, compression: int) -> None:
        self._compression_type = compression


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_a_header_may_have_any_name(compression: int) -> None:
    """Wherever it stands in its batch: it and its neighbours are read, and it is written as it came."""
    odd = aiokafka_records.RawName(b"caf\xe9")
    headers: list[list[tuple[str, bytes | None]]] = [
        [("a", b"1"), ("n", None)],
        [(odd, b"x"), ("", b"")],
        [],
        [("b", b"2")],
    ]
    values = [b"first", None, b"", b"last"]
    records = fetched(*zip(values, headers, strict=True), compression=compression)
    assert [(record.offset, record.timestamp, record.key) for record in records] == [(n, 5, b"key") for n in range(4)]
    assert [record.value for record in records] == values
    assert [record.headers for record in records] == headers
    assert records[1].headers[0][0] == "caf\ufffd"
    assert records[1].headers[0][0].encode() == b"caf\xe9"
    assert type(records[3].headers[0][0]) is str


def test_of_very_many_headers_only_so_many_are_read() -> None:
    """What is behind them in the batch is read as well."""
    records = fetched((b"x", [("", None)] * 300_000), (b"y", [("a", b"1")]))
    assert [len(record.headers) for record in records] == [aiokafka_records.HEADERS_READ, 1]


async def test_a_producers_batch_takes_any_header_name() -> None:
    """With the producer's own limits; without such a name it is the producer's own batch."""
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t", max_batch_size=4096)
    batch = aiokafka_records.new_batch(producer, any_name=True)
    batch._set_producer_state(1, 2, 3)
    assert batch.append(timestamp=None, key=None, value=b"x" * 5000, headers=[(aiokafka_records.RawName(b"\xff"), b"")])
    assert batch.append(timestamp=None, key=None, value=b"x", headers=[]) is None
    assert type(aiokafka_records.new_batch(producer, any_name=False)) is type(producer.create_batch())
    await close_producer(producer)


async def test_a_batch_may_be_left_uncompressed() -> None:
    """Of a producer that compresses."""
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", compression_type="lz4")
    for is_plain in (False, True):
        batch = aiokafka_records.new_batch(producer, any_name=False, is_plain=is_plain)
        batch.append(timestamp=None, key=None, value=b"x" * 500_000)
        assert (len(batch._build()) > 500_000) is is_plain
    await close_producer(producer)


class SilentConnection:
    """A connection to a broker that never answers."""

    def __init__(self) -> None:
        self._request_timeout = 0.01
        self.waited_s: list[float] = []
        self.closed_for: list[CloseReason | None] = []

    def send(self, _request: object, **_: object) -> Any:
        self.waited_s.append(self._request_timeout)
        return asyncio.wait_for(asyncio.get_running_loop().create_future(), self._request_timeout)

    def close(self, reason: CloseReason | None = None) -> asyncio.Future[None]:
        self.closed_for.append(reason)
        closed = asyncio.get_running_loop().create_future()
        closed.set_result(None)
        return closed


async def test_requests_are_bounded_and_joins_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was sent, its connection is closed when no answer comes; a join alone is waited for longer."""
    consumer, connection = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g"), SilentConnection()

    async def connect(_node_id: int, **_: object) -> SilentConnection:
        return connection

    monkeypatch.setattr(consumer._client, "_get_conn", connect)
    private.bound_requests(consumer, 5.0, join_s=0.02)
    assert consumer._client._request_timeout_ms == 5_000
    join = JoinGroupRequest("g", 10_000, 15_000, "", "", "consumer", [])
    for request in (HeartbeatRequest("g", 1, "m"), join, HeartbeatRequest("g", 1, "m")):
        with pytest.raises(RequestTimedOutError):
            await (await consumer._client._get_conn(1)).send(request)
    assert connection.waited_s == [0.01, 0.02, 0.01]
    assert connection.closed_for == [CloseReason.CONNECTION_TIMEOUT] * 3
    await consumer.stop()


async def test_a_connection_that_was_replaced_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests time out, and a third has removed the closed connection before the second one looks for it."""
    consumer, connection = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g"), SilentConnection()
    known = consumer._client._conns
    monkeypatch.setattr(connection, "close", lambda reason: known.clear())

    async def connect(node_id: int, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        return known.setdefault((node_id, group), connection)

    monkeypatch.setattr(consumer._client, "_get_conn", connect)
    private.bound_requests(consumer, 5.0)
    with pytest.raises(RequestTimedOutError):
        await consumer._client.send(1, HeartbeatRequest("g", 1, "m"))
    await consumer.stop()


@pytest.mark.parametrize("kind", [AIOKafkaAdminClient, AIOKafkaConsumer, AIOKafkaProducer])
async def test_every_kind_of_client_can_be_bounded(kind: Any) -> None:
    """Each keeps its connections in a client of its own."""
    owner = kind(bootstrap_servers="127.0.0.1:1")
    private.bound_requests(owner, 5.0)
    client = owner.client if kind is AIOKafkaProducer else owner._client
    assert client._request_timeout_ms == 5_000
    await (owner.close() if kind is AIOKafkaAdminClient else owner.stop())


def test_the_task_that_fetches_can_be_asked_for() -> None:
    """It runs while the consumer does."""
    assert isinstance(fetcher.Fetcher.error_future, property)


async def test_a_producer_is_closed_by_a_task_that_is_cancelled_at_once() -> None:
    """Else nothing would close it: aiokafka's own `stop` would never have begun."""
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    closing = asyncio.create_task(close_producer(producer))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert producer._closed


async def test_a_consumer_whose_stop_is_ended_is_disconnected() -> None:
    """As when its group's coordinator does not answer: aiokafka would come to the connections after it."""

    class Hanging:
        async def close(self) -> None:
            await asyncio.Event().wait()

    connection, consumer = SilentConnection(), AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    consumer._coordinator = Hanging()
    consumer._client._conns[1, ConnectionGroup.DEFAULT] = connection
    closing = asyncio.create_task(close_consumer(consumer))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert connection.closed_for == [CloseReason.SHUTDOWN]


async def test_a_producer_that_is_given_up_at_once_is_closed() -> None:
    """No time to flush is time enough to close it: else it would be reported as left open."""
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    await close_producer(producer, within_s=0)
    assert producer._closed


async def test_a_start_that_is_cancelled_leaves_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the broker accepts and does not say who else there is."""
    connection, waits = SilentConnection(), asyncio.Event()

    async def connect(*_: object, **__: object) -> SilentConnection:
        waits.set()
        return connection

    monkeypatch.setattr(connection, "_request_timeout", 60)
    monkeypatch.setattr(private, "_connect", connect)
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    start = asyncio.create_task(consumer.start())
    await waits.wait()
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert connection.closed_for == [None]
    await consumer.stop()


async def test_a_client_that_is_closed_connects_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a request of a producer that was given up has just begun: nothing would close its connection."""
    connection, waits, goes_on = SilentConnection(), asyncio.Event(), asyncio.Event()

    async def connect(*_: object, **__: object) -> SilentConnection:
        waits.set()
        await goes_on.wait()
        return connection

    monkeypatch.setattr(private, "_connect", connect)
    own = client.AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    own.cluster._brokers[1] = BrokerMetadata(1, "127.0.0.1", 1, None)
    asked = asyncio.create_task(own.ready(1))
    await waits.wait()
    await own.close()
    goes_on.set()
    assert not await asked
    assert connection.closed_for == [CloseReason.SHUTDOWN]


async def test_what_is_connected_after_the_start_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that keeps metadata fresh is started by the bootstrap, and connects for as long as the client lives."""
    later: list[asyncio.Task[Any]] = []

    async def connect(*_: object, **__: object) -> object:
        return object()

    async def bootstrap(_own: object) -> None:
        await client.create_conn("h", 1)
        later.append(asyncio.create_task(client.create_conn("h", 1)))

    monkeypatch.setattr(private, "_connect", connect)
    monkeypatch.setattr(private, "_bootstrap", bootstrap)
    await client.AIOKafkaClient(bootstrap_servers="127.0.0.1:1").bootstrap()
    connection = await later[0]
    assert not gc.get_referrers(connection)
    assert not private._connected
