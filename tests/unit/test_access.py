"""Credentials: files that change, certificates that do not fit, and tokens that are signed here."""

import asyncio
import base64
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
from structlog.testing import LogCapture

from streamgauge import access as access_module
from streamgauge.access import FORGOTTEN_AFTER_S, Access, access
from streamgauge.errors import ConfigurationError
from streamgauge.settings import KafkaSettings, load
from streamgauge.tokens import PAUSE_S, TokenProvider, TokenRefused, token_provider
from tests.secured.broker import PASSWORD, Identities


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities(tmp_path_factory.mktemp("identities"))


@pytest.mark.parametrize(
    ("certificate", "key", "password", "problem"),
    [
        ("client", "stranger", None, "KEY_FILE=.*stranger.pem is not the key of CERTIFICATE_FILE=.*client.pem"),
        ("client_encrypted", None, None, "KEY_FILE=.*client-encrypted.pem is encrypted; set KEY_PASSWORD"),
        ("client_encrypted", None, "wrong", "KEY_PASSWORD does not open KEY_FILE=.*client-encrypted.pem"),
        ("client", "authority", None, "must hold a certificate and its key in PEM"),
    ],
)
def test_a_certificate_and_its_key_are_checked(
    certificate: str, key: str | None, password: str | None, problem: str, identities: Identities
) -> None:
    """Before anything is connected; and nobody is asked at the terminal."""
    given = {
        "certificate_file": str(getattr(identities, certificate)),
        "key_file": key and str(getattr(identities, key)),
        "key_password": password,
    }
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load(KafkaSettings, security_protocol="SSL", **given)
    assert "wrong" not in str(caught.value)


def test_a_file_that_is_being_replaced_changes_nothing(identities: Identities, tmp_path: Path) -> None:
    """Until it is whole: then the next connection has it."""
    file = tmp_path / "tls.pem"
    file.write_bytes(identities.client_encrypted.read_bytes())
    settings = load(KafkaSettings, security_protocol="SSL", certificate_file=str(file), key_password=PASSWORD)
    first = access(settings).options()
    assert access(settings).options() is first
    file.write_bytes(b"")
    assert access(settings).options() is first
    file.write_bytes(identities.stranger.read_bytes())
    assert access(settings).options()["ssl_context"] is not first["ssl_context"]


async def test_a_token_for_msk_is_signed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A presigned request, as MSK's IAM logins want it: https://github.com/aws/aws-msk-iam-sasl-signer-python."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    provider = token_provider(_msk())
    assert provider
    token = await provider.token()
    assert await provider.token() == token
    url = urlsplit(base64.urlsafe_b64decode(token + "==").decode())
    assert (url.hostname, parse_qs(url.query)["Action"]) == ("kafka.eu-west-1.amazonaws.com", ["kafka-cluster:Connect"])
    assert "a secret" not in url.query


async def test_msk_without_credentials_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By name: nobody waits for a broker that cannot be asked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    provider = token_provider(_msk())
    assert provider
    with pytest.raises(TokenRefused, match="no credentials of AWS to sign a login with"):
        await provider.token()


def _msk() -> KafkaSettings:
    return load(KafkaSettings, security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM", aws_region="eu-west-1")


def test_kerberos_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what to install; and by the import's own words, for the system's library may be what is missing."""
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[gssapi\]' \(.*gssapi"):
        token_provider(load(KafkaSettings, security_protocol="SASL_SSL", sasl_mechanism="GSSAPI"))


def test_refusals_are_of_one_broker_and_are_forgotten() -> None:
    """Another broker that lets us in says nothing of this one; and who needs this one tries again within a minute."""
    now_s = 0.0
    own = Access(KafkaSettings(), lambda: now_s)
    expired = ssl.SSLCertVerificationError(1, "x")
    expired.verify_code, expired.verify_message = 10, ""
    first, second = ("a", 1), ("b", 2)
    own.refused(first, expired)
    own.accepted(second)
    assert own.refusal == "a:1: the broker's certificate has expired"
    assert own.is_refused_by([first])
    assert not own.is_refused_by([first, second])
    assert not own.is_refused_by([])
    now_s = FORGOTTEN_AFTER_S + 1
    assert own.refusal is None
    own.refused(first, expired)
    own.accepted(first)
    assert own.refusal is None


def test_a_broker_that_is_lost_and_found_is_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections fail meanwhile; and none before Kafka was reached, when the start says so itself."""
    logs, now_s = LogCapture(), 0.0
    monkeypatch.setattr(access_module, "log", structlog.wrap_logger(None, processors=[logs]))
    own = Access(KafkaSettings(), lambda: now_s)
    own.refused(("a", 1), OSError("no route"))
    own.is_started = True
    now_s = 1.0
    for _ in range(3):
        own.refused(("a", 1), OSError("no route"))
    own.accepted(("b", 2))
    now_s = 61.0
    for _ in range(3):
        own.accepted(("a", 1))
    next_step = "tried again until it answers"
    assert logs.entries == [
        {
            "event": "kafka.connection_lost",
            "broker": "a:1",
            "problem": "no route",
            "next": next_step,
            "log_level": "warning",
        },
        {"event": "kafka.connected_again", "broker": "a:1", "away_s": 60, "log_level": "warning"},
    ]


@asynccontextmanager
async def port_that(answers: int) -> AsyncIterator[int]:
    """Answers so many of Kafka's questions; then it says nothing, or closes where that many are less than asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers):
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            await reader.readexactly(size)
            writer.write(struct.pack(">iihi", 10, 0, 0, 0))
        if answers != 1:
            writer.close()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_slow_broker_wants_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers which versions it has, and nothing more for now: that is no refusal."""
    monkeypatch.setattr("streamgauge.access.ASKING_TIMEOUT_S", 0.2)
    own = Access(KafkaSettings())
    async with port_that(answers=1) as port:
        await own.examine([("127.0.0.1", port)])
    assert own.refusal is None


async def test_tokens_are_kept_while_they_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when no other is to be had; a broker that refuses one has another asked for; failures are not repeated."""
    now_s, asked = 1000.0, 0
    given: list[tuple[str, float] | ConnectionError] = [("a", 100), ConnectionError("away"), ("b", 100)]
    monkeypatch.setattr("streamgauge.tokens.time.time", lambda: now_s)

    class Given(TokenProvider):
        async def _fetch(self) -> tuple[str, float]:
            nonlocal asked
            asked += 1
            one = given.pop(0)
            if isinstance(one, ConnectionError):
                raise one
            return one

    provider = Given(_msk())
    assert await provider.token() == "a"
    now_s += 79
    assert (await provider.token(), asked) == ("a", 1)
    now_s += 2
    assert (await provider.token(), asked) == ("a", 2)
    provider.forget()
    with pytest.raises(ConnectionError, match="away"):
        await provider.token()
    assert asked == 2
    now_s += PAUSE_S
    assert (await provider.token(), asked) == ("b", 3)
