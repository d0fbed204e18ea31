"""New credentials need no restart; and a service that is not let in any more says so."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from streamgauge.events import decode_prediction
from streamgauge.kafka import admin_client
from streamgauge.provisioning import make_right
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.cluster import Stream, until
from tests.end_to_end.test_commands import get, service
from tests.oracle import Input
from tests.secured.broker import PASSWORD, SecuredKafka
from tests.secured.tokens import CLIENT, SECRET

pytestmark = pytest.mark.timeout(300)

TEXTS = 40


async def stream_of(secured: SecuredKafka, prefix: str) -> Stream:
    """Topics and a group of the name, made by a user that may do everything, who also writes and reads them."""
    kafka, topics = KafkaSettings(bootstrap_servers=secured.plain), TopicSettings(prefix=prefix)
    async for _line in make_right(kafka, topics, prefix, 2, None, dry_run=False):
        pass
    return Stream(kafka, topics, prefix, 2)


def environment(secured: SecuredKafka, stream: Stream, **settings: str) -> dict[str, str]:
    """Of a worker that logs in as `anna`."""
    return secured.environment(**{f"STREAMGAUGE_KAFKA_{name}": value for name, value in settings.items()}) | {
        "STREAMGAUGE_TOPIC_PREFIX": stream.topics.prefix,
        "STREAMGAUGE_WORKER_GROUP": stream.group,
    }


def says(port: int, status: int, text: str = "") -> Callable[[], bool]:
    def fact() -> bool:
        found, body = get(port, "/readyz")
        return found == status and text in body

    return fact


def positions(results: Iterable[Any]) -> list[tuple[int, int]]:
    """Where the texts of these results stand."""
    sources = [decode_prediction(record.value).source for record in results]
    return sorted((source.partition, source.offset) for source in sources)


async def test_a_password_is_changed_under_a_running_worker(secured: SecuredKafka, tmp_path: Path) -> None:
    """First at the broker, which refuses the old one then; later in the file, which is read at the next login."""
    stream, file = await stream_of(secured, "password"), tmp_path / "password"
    file.write_text("first\n")
    secured.set_password("anna", "first")
    try:
        with service(
            "-m", "streamgauge", "worker", **environment(secured, stream, PASSWORD="", PASSWORD_FILE=str(file))
        ) as (_process, port, _log):
            inputs = await stream.publish([Input(b"a fine film", 1.0)] * TEXTS)
            await stream.read(at_least=TEXTS)
            secured.set_password("anna", "second")
            await until(says(port, 503, "Kafka refused the login of anna with SCRAM-SHA-512"))
            await until(lambda: "streamgauge_kafka_refused 1.0" in get(port, "/metrics")[1])
            file.write_text("second\n")
            await until(says(port, 200))
            await until(lambda: "streamgauge_kafka_refused 0.0" in get(port, "/metrics")[1])
            inputs |= await stream.publish([Input(b"a dull film", 0.0)] * TEXTS)
            assert positions(await stream.read(at_least=2 * TEXTS)) == sorted(inputs)
    finally:
        secured.set_password("anna", PASSWORD)


async def test_tokens_are_renewed_before_they_expire(secured: SecuredKafka) -> None:
    """A token lives shorter than the worker, and the broker ends the connections that were made with it."""
    stream = await stream_of(secured, "tokens")
    secured.tokens.life_s, secured.tokens.scopes[:] = 15, []
    settings = {
        "USERNAME": "",
        "PASSWORD": "",
        "SASL_MECHANISM": "OAUTHBEARER",
        "OAUTH_TOKEN_URL": f"{secured.tokens.url}/token",
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_CLIENT_SECRET": SECRET,
    }
    try:
        with service("-m", "streamgauge", "worker", **environment(secured, stream, **settings)) as (
            _process,
            port,
            _log,
        ):
            inputs = await stream.publish([Input(b"a fine film", 1.0)] * TEXTS)
            await until(lambda: len(secured.tokens.scopes) >= 3)
            inputs |= await stream.publish([Input(b"a dull film", 0.0)] * TEXTS)
            assert positions(await stream.read(at_least=2 * TEXTS)) == sorted(inputs)
            assert "streamgauge_kafka_refused 0.0" in get(port, "/metrics")[1]
    finally:
        secured.tokens.life_s = 600


async def test_a_certificate_is_replaced(secured: SecuredKafka, tmp_path: Path) -> None:
    """The next connection shows the new one; while it is half written, the old one."""
    file = tmp_path / "tls.pem"
    good = secured.identities.client.read_bytes()
    file.write_bytes(good)
    kafka = KafkaSettings(
        bootstrap_servers=secured.server("MUTUAL"),
        security_protocol="SSL",
        ca_file=str(secured.identities.authority),
        certificate_file=str(file),
        connect_timeout_s=30,
    )

    async def connects() -> str:
        try:
            async with admin_client(kafka) as admin:
                await admin.list_topics()
        except Exception as error:  # noqa: BLE001 - what it says is what is tested
            return str(error)
        return ""

    assert await connects() == ""
    file.write_bytes(good[:200])
    assert await connects() == ""
    file.write_bytes(secured.identities.stranger.read_bytes())
    assert "does not trust our certificate" in await connects()
    file.write_bytes(good)
    assert await connects() == ""
