"""Kerberos, with a KDC and a Kafka that asks for its tickets: what lets one in, and what one is told otherwise."""

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamgauge.access import access
from streamgauge.broker import embedded
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.commands.cli import exit_code
from tests.cluster import Stream, until
from tests.end_to_end.test_commands import get, service
from tests.oracle import Input
from tests.secured.broker import SESSION_MS
from tests.secured.kdc import REALM, Kdc, missing, running_kdc
from tests.secured.test_rotation import TEXTS, positions

pytestmark = pytest.mark.timeout(300)

SERVICE, STRANGER = "kafka/127.0.0.1", "stranger/127.0.0.1"
"""Who the broker is; and who Kerberos knows, but the broker has no keys of."""
BRIEF_S = 6
"""For so long a ticket of `brief` is good."""
MODULE = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true isInitiator=false"


class Kerberos:
    """The realm, a Kafka in it, and a folder for what a test needs."""

    def __init__(self, realm: Kdc, kafka: EmbeddedKafka, port: int, folder: Path) -> None:
        self.realm, self.kafka, self._port, self.folder = realm, kafka, port, folder
        self.anna, self.bob, self.gone = (realm.keytab(name) for name in ("anna", "bob", "gone"))
        self.brief = realm.keytab("brief", "-maxlife", f"{BRIEF_S}sec")
        self.briefest = realm.keytab("briefest", "-maxlife", "2sec")
        realm.forget("gone")
        realm.keytab(STRANGER)

    def environment(self, **further: str | Path) -> dict[str, str]:
        """Without a ticket, and without keys to get one."""
        settings = {
            "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self._port}",
            "STREAMGAUGE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "STREAMGAUGE_KAFKA_SASL_MECHANISM": "GSSAPI",
            "KRB5_CONFIG": self.realm.config,
            "KRB5CCNAME": "MEMORY:",
            "KRB5_CLIENT_KTNAME": self.folder / "nowhere",
        }
        return {name: str(value) for name, value in (settings | further).items()}

    def ticket(self, keytab: Path, *services: str, skew_s: int = 0) -> Path:
        return self.realm.ticket(keytab, self.folder / f"{keytab.stem}.cache", *services, skew_s=skew_s)


@pytest.fixture(scope="module")
def kerberos(kafka_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kerberos]:
    if not importlib.util.find_spec("gssapi"):
        pytest.skip("needs the extra: pip install '.[gssapi]'")
    if programs := missing():
        pytest.skip(f"needs {programs}")
    folder = tmp_path_factory.mktemp("kerberos")
    with running_kdc(folder) as realm, pytest.MonkeyPatch.context() as patched, socket.socket() as held:
        keytab, java = realm.keytab(SERVICE), _java()
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        address = f"TICKET://127.0.0.1:{port}"
        settings = {
            "listeners": address,
            "advertised.listeners": address,
            "listener.security.protocol.map": "TICKET:SASL_PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:anna;User:brief;User:briefest",
            "sasl.kerberos.service.name": "kafka",
            "listener.name.ticket.sasl.enabled.mechanisms": "GSSAPI",
            "listener.name.ticket.gssapi.connections.max.reauth.ms": str(SESSION_MS),
            "listener.name.ticket.gssapi.sasl.jaas.config": (
                f'{MODULE} keyTab="{keytab}" principal="{SERVICE}@{REALM}";'
            ),
        }
        # An older Java does not know all options of ours.
        options = f"-XX:+IgnoreUnrecognizedVMOptions -Djava.security.krb5.conf={realm.config}"
        patched.setenv("JAVA_TOOL_OPTIONS", options)
        patched.setattr(embedded, "_java", lambda: java)
        held.close()
        with EmbeddedKafka(version=kafka_version, settings=settings) as kafka:
            yield Kerberos(realm, kafka, port, folder)


def _java() -> Path:
    """The embedded Java has no SASL with Kerberos: its module jdk.security.jgss is left out."""
    java = shutil.which("java")
    if not java or b"jdk.security.jgss@" not in subprocess.check_output([java, "--list-modules"]):
        pytest.skip("needs a Java with jdk.security.jgss (Debian: openjdk-17-jre-headless)")
    return Path(java)


@pytest.fixture
def connects(kerberos: Kerberos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command that only looks; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    access.cache_clear()  # as in a process of its own

    def run(**environment: str | Path) -> int:
        for name, value in kerberos.environment(**{"KRB5CCNAME": tmp_path / "cache"} | environment).items():
            monkeypatch.setenv(name, value)
        return exit_code(["topics", "create", "--dry-run"])

    return run


def test_a_ticket_lets_one_in(kerberos: Kerberos, connects: Callable[..., int]) -> None:
    """One that is there; or keys, with which the library gets one."""
    assert connects(KRB5CCNAME=kerberos.ticket(kerberos.anna)) == 0
    assert connects(KRB5_CLIENT_KTNAME=kerberos.anna) == 0


REFUSALS: dict[str, Callable[[Kerberos], dict[str, str | Path]]] = {
    "no ticket from Kerberos: No Kerberos credentials available": lambda _kerberos: {},
    f"Client 'gone@{REALM}' not found in Kerberos database": lambda kerberos: {"KRB5_CLIENT_KTNAME": kerberos.gone},
    f"Server nobody/127.0.0.1@{REALM} not found in Kerberos database; see klist, KRB5_CLIENT_KTNAME and "
    "STREAMGAUGE_KAFKA_KERBEROS_SERVICE_NAME": lambda kerberos: {
        "KRB5_CLIENT_KTNAME": kerberos.anna,
        "STREAMGAUGE_KAFKA_KERBEROS_SERVICE_NAME": "nobody",
    },
    "no ticket from Kerberos: Clock skew too great": lambda kerberos: {
        "KRB5CCNAME": kerberos.ticket(kerberos.anna, skew_s=3600),
    },
    "Kafka refused our ticket: the broker's keytab holds other keys": lambda kerberos: {
        "KRB5_CLIENT_KTNAME": kerberos.anna,
        "STREAMGAUGE_KAFKA_KERBEROS_SERVICE_NAME": STRANGER.partition("/")[0],
    },
    "or a clock is wrong": lambda kerberos: {"KRB5CCNAME": kerberos.ticket(kerberos.anna, SERVICE, skew_s=3600)},
    "Kafka does not allow this user: ": lambda kerberos: {"KRB5CCNAME": kerberos.ticket(kerberos.bob)},
}


@pytest.mark.parametrize("problem", REFUSALS)
def test_a_refusal_is_told_at_once(
    problem: str, kerberos: Kerberos, connects: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """By the first line, and nobody waits for `connect_timeout_s`."""
    assert connects(**REFUSALS[problem](kerberos)) == 2
    first, *_hint = capfd.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert problem in first


def test_a_ticket_that_expires_is_refused_from_then_on(
    kerberos: Kerberos, connects: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """Otherwise five minutes later, for clocks may differ by so much."""
    strict = kerberos.realm.client_config("strict", kerberos.realm.port, skew_s=0)
    cache = kerberos.ticket(kerberos.briefest, SERVICE)
    while connects(KRB5CCNAME=cache, KRB5_CONFIG=strict) != 2:
        pass
    assert "no ticket from Kerberos: Ticket expired" in capfd.readouterr().err.splitlines()[-1]


def test_a_kdc_that_is_away_is_waited_for(
    kerberos: Kerberos, connects: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """As a broker is; and the last word names it."""
    away = kerberos.realm.client_config("away", 1)
    own = {"KRB5_CLIENT_KTNAME": kerberos.anna, "STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S": "3"}
    assert connects(KRB5_CONFIG=away, **own) == 1
    problem = f"(no ticket from Kerberos: Cannot contact any KDC for realm '{REALM}')"
    assert capfd.readouterr().err.splitlines()[-1].endswith(problem)


async def test_tickets_are_renewed_from_a_keytab(kerberos: Kerberos) -> None:
    """A ticket lives shorter than the worker, and the broker ends the connections that were made with it."""
    stream = await Stream.create(kerberos.kafka.bootstrap_servers)
    own = {"STREAMGAUGE_TOPIC_PREFIX": stream.topics.prefix, "STREAMGAUGE_WORKER_GROUP": stream.group}
    environment = kerberos.environment(KRB5_CLIENT_KTNAME=kerberos.brief, **own)
    with service("-m", "streamgauge", "worker", **environment) as (_process, port, _log):
        inputs = await stream.publish([Input(b"a fine film", 1.0)] * TEXTS)
        await stream.read(at_least=TEXTS)
        first_s, *_later = kerberos.realm.issued_s("brief")
        await until(lambda: kerberos.realm.issued_s("brief")[-1] > first_s + BRIEF_S)
        inputs |= await stream.publish([Input(b"a dull film", 0.0)] * TEXTS)
        assert positions(await stream.read(at_least=2 * TEXTS)) == sorted(inputs)
        assert "streamgauge_kafka_refused 0.0" in get(port, "/metrics")[1]
