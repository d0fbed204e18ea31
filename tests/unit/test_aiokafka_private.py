"""The private parts of aiokafka that are used are there in the installed version, and do what they are used for."""

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streamgauge import aiokafka_private as private
from streamgauge.kafka import close_producer


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
    batch = DefaultRecordBatchBuilder(2, 0, 1, 1, 1, 1, 0)
    batch.append(0, 1_000, b"k", b"v" * 300, headers)
    assert private.batch_bytes(1_000, b"k", b"v" * 300, headers) == len(batch.build())


def test_the_admin_client_sends_what_it_has_no_method_for() -> None:
    """`topic_ids` needs a version of Metadata that it does not know."""
    assert callable(AIOKafkaAdminClient._send_request)


async def test_joins_may_take_longer_than_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a join is sent its connection's timeout is the longer one; any other request has the client's."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g", request_timeout_ms=5_000)
    client, used_s = consumer._client, []

    class Connection:
        """What a client keeps of each broker."""

        _request_timeout = 5.0

    async def send(node_id: int, _request: object, *, group: ConnectionGroup) -> None:
        used_s.append(client._conns[node_id, group]._request_timeout)

    async def ready(_node_id: int, **_: object) -> bool:
        return True

    client._conns[1, ConnectionGroup.COORDINATION] = Connection()
    monkeypatch.setattr(client, "send", send)
    monkeypatch.setattr(client, "ready", ready)
    private.wait_longer_for_joins(consumer, 17.0)
    join = JoinGroupRequest("g", 10_000, 15_000, "", "", "consumer", [])
    for request in (HeartbeatRequest("g", 1, "m"), join, HeartbeatRequest("g", 1, "m")):
        await client.send(1, request, group=ConnectionGroup.COORDINATION)
    assert used_s == [5.0, 17.0, 5.0]
    client._conns.clear()
    await consumer.stop()
