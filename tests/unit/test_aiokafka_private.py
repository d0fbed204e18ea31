"""The private parts of aiokafka that are used are there in the installed version, and do what they are used for."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamgauge import aiokafka_private as private
from streamgauge.kafka import close_producer


async def test_what_waits_in_a_producer_can_be_failed() -> None:
    """It need not be connected; its sender's task can be asked for, and it has no transaction that could end."""
    producer = AIOKafkaProducer(enable_idempotence=True, bootstrap_servers="127.0.0.1:1")
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"x")
    waiting = await producer._message_accumulator.add_batch(batch, TopicPartition("topic", 0), timeout=1)
    private.fail_unsent(producer, KafkaError("given up"))
    with pytest.raises(KafkaError, match="given up"):
        await waiting
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


def test_the_admin_client_sends_what_it_has_no_method_for() -> None:
    """`topic_ids` needs a version of Metadata that it does not know."""
    assert callable(AIOKafkaAdminClient._send_request)
