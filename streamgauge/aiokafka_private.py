"""All that is used of aiokafka without being part of its documented interface, and why. Written for aiokafka 0.14.

`tests/unit/test_aiokafka_private.py` holds the installed version to it: where a part is gone, only this module changes.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, Response


def fail_unsent(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail what waits to be sent: aiokafka keeps an idempotent producer's batch for ever, and `stop` waits for it."""
    producer._message_accumulator.fail_all(error)


def sender_task(producer: AIOKafkaProducer) -> asyncio.Task[None] | None:
    """The task that sends: when `stop` is cancelled it goes on, through connections that it opens anew."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def transaction_end(producer: AIOKafkaProducer) -> asyncio.Future[Any] | None:
    """The future of the running transaction's end: nobody awaits that of a producer which was fenced."""
    return producer._txn_manager.wait_for_transaction_end() if producer._txn_manager else None


async def send(admin: AIOKafkaAdminClient, request: Request[Any]) -> Response:
    """Send a request that the admin client has no method for, to any broker. Raises KafkaError."""
    answer: Response = await admin._send_request(request)
    return answer
