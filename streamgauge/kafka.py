"""Reaching Kafka through aiokafka: clients from settings, opened and closed with patience."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, RequestTimedOutError

from streamgauge.access import access
from streamgauge.aiokafka_private import (
    AdminClient,
    bound_requests,
    broker_addresses,
    connections_of,
    fail_unsent,
    note_closed,
    reach,
    sender_task,
    server_addresses,
    transaction_end,
)
from streamgauge.errors import AccessDenied, StreamgaugeError
from streamgauge.lifecycle import Deadline, unless_stopped
from streamgauge.settings import KafkaSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

CLOSE_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
"""aiokafka's 40 s would pass before a connection that has died without a word is given up."""
ABANDON_TIMEOUT_S = 0.5
MAX_BACKOFF_S = 5.0
RETRY_BACKOFF_S = 0.2


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The keyword arguments that every aiokafka client takes; what its connections need, `Access` adds to each."""
    mechanism = settings.sasl_mechanism
    return {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "ssl_context": access(settings),
        "sasl_mechanism": "OAUTHBEARER" if mechanism == "AWS_MSK_IAM" else mechanism,
        "sasl_plain_username": "",
        "sasl_plain_password": "",
    }


def service_options(settings: KafkaSettings) -> dict[str, Any]:
    """Those of a client whose requests are bounded by REQUEST_TIMEOUT_S: what takes several may last twice as long."""
    return client_options(settings) | {"request_timeout_ms": round(2 * REQUEST_TIMEOUT_S * 1000)}


@asynccontextmanager
async def admin_client(
    settings: KafkaSettings, stop: asyncio.Event | None = None, request_timeout_s: float | None = None
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Services and commands open it first, so here they wait for a broker that is not up yet.
    `request_timeout_s` bounds each of its requests, from the first on.

    Raises StreamgaugeError when no broker answers within `reach_timeout_s`, Stopped when `stop` is set before.
    """
    admin = await unless_stopped(stop or asyncio.Event(), _reached(settings, request_timeout_s))
    try:
        yield admin
    finally:
        await _closed(admin.close())


async def _reached(settings: KafkaSettings, request_timeout_s: float | None) -> AIOKafkaAdminClient:
    deadline = Deadline(settings.reach_timeout_s)
    backoff_s = 0.25
    own, servers = access(settings), server_addresses(settings.bootstrap_servers)
    while True:
        admin = AdminClient(**client_options(settings))
        if request_timeout_s:
            bound_requests(admin, request_timeout_s)
        try:
            async with asyncio.timeout(deadline.left_s):  # a port may accept, and never answer
                await admin.start()
                await reach(admin)
        except (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, TimeoutError):
            advertised = broker_addresses(admin)
            await _closed(admin.close())
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline.left_s):
                    await own.examine(servers)
            if own.is_refused_by(servers) or own.is_refused_by(advertised):
                raise AccessDenied(own.refusal) from None
            if not deadline.left_s:
                raise StreamgaugeError(
                    f"no Kafka broker answered at {settings.bootstrap_servers} within "
                    f"{settings.reach_timeout_s:g} s; is one running? See STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS "
                    f"({own.trouble or 'no answer'})"
                ) from None
            log.info(
                "kafka.unreachable",
                bootstrap_servers=settings.bootstrap_servers,
                problem=own.trouble,
                left_s=round(deadline.left_s),
            )
            await asyncio.sleep(min(jittered(backoff_s), deadline.left_s))
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
        except BaseException:
            await _closed(admin.close())
            raise
        else:
            own.is_started = True
            return admin


async def answered(settings: KafkaSettings, asking: Awaitable[T], when: str) -> T:
    """What Kafka answers; raises StreamgaugeError when that takes longer than `connect_timeout_s`."""
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            return await asking
    except TimeoutError:
        raise StreamgaugeError(
            f"Kafka at {settings.bootstrap_servers} did not answer within {settings.connect_timeout_s:g} s: {when}"
        ) from None


async def _closed(closing: Awaitable[Any], within_s: float = CLOSE_TIMEOUT_S) -> None:
    """Wait until a client is closed, in whatever state it is; not longer than `within_s`.

    A frozen broker would be waited for; and of a broker that has gone, tasks that aiokafka itself has cancelled.
    """
    # Begun before the timeout, even one of 0 s: what has begun to close knows that it has.
    ending = asyncio.ensure_future(closing)
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await asyncio.gather(ending, return_exceptions=True)


def jittered(backoff_s: float) -> float:
    """Half to all of a back-off, so that replicas do not come back in step."""
    return backoff_s * random.uniform(0.5, 1)  # noqa: S311 - no secret


async def sleep_or_stop(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, unless the service is asked to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def close_producer(producer: AIOKafkaProducer, within_s: float = CLOSE_TIMEOUT_S) -> None:
    """Close a producer whatever state it is in, also while being cancelled; what is not sent `within_s` is given up."""
    try:
        await _closed(producer.stop(), within_s)
    finally:
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End what `stop()` leaves running when it cannot flush: aiokafka never gives up an idempotent batch.

    Its sender would go on sending, through connections that it opens anew, for as long as the process lives.
    """
    fail_unsent(producer, KafkaError("the producer was given up"))
    sender = sender_task(producer)
    for _attempt in range(2):  # the first cancellation makes it wait for what is in flight, the second ends that
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait([sender], timeout=ABANDON_TIMEOUT_S)
    await _disconnect(producer)
    # A fenced producer leaves a failed future behind that nobody awaits; unretrieved, asyncio would log a traceback.
    end = transaction_end(producer)
    if end is not None and end.done() and not end.cancelled():
        end.exception()


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close, in whatever state it is, within a few seconds, also while being cancelled."""
    try:
        await _closed(consumer.stop())
    finally:
        await _disconnect(consumer)


async def _disconnect(owner: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Close the connections, which a `stop()` that has been ended may not have come to."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ABANDON_TIMEOUT_S):
            await connections_of(owner).close()
    note_closed(owner)


async def persistently(ask: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Ask again, for so long, while the cluster is in a state that passes: a broker is down, a leader moves."""
    deadline = Deadline(timeout_s)
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or not deadline.left_s:
                raise
        await asyncio.sleep(jittered(RETRY_BACKOFF_S))
