"""Every way in works, and every wrong one ends the start at once, with one line that says what is wrong."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from streamgauge.commands.cli import exit_code
from tests.secured.broker import PASSWORD, SecuredKafka
from tests.secured.tokens import CLIENT, SECRET

ESCAPED = PASSWORD.replace("{", "{{").replace("}", "}}")
UNSET = {"USERNAME": "", "PASSWORD": "", "SASL_MECHANISM": ""}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def connects(secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, **settings: str) -> int:
    """Run a command that only looks; returns its exit code. What is not given is as `anna` needs it for SCRAM."""
    for name, value in settings.items():
        settings[name] = value.format(
            identities=secured.identities, ports=secured.ports, tokens=secured.tokens, plain=secured.plain
        )
    for name, value in (secured.environment() | {f"STREAMGAUGE_KAFKA_{k}": v for k, v in settings.items()}).items():
        monkeypatch.setenv(name, value)
    return exit_code(["topics", "create", "--dry-run"])


CLIENT_CERTIFICATE = UNSET | {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[MUTUAL]}", "SECURITY_PROTOCOL": "SSL"}
CLEAR = {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[CLEAR]}", "SECURITY_PROTOCOL": "SASL_PLAINTEXT", "CA_FILE": ""}
TOKEN = UNSET | {
    "SASL_MECHANISM": "OAUTHBEARER",
    "OAUTH_TOKEN_URL": "{tokens.url}/token",
    "OAUTH_CLIENT_ID": CLIENT,
    "OAUTH_CLIENT_SECRET": SECRET,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"SASL_MECHANISM": "PLAIN"},
        {"SASL_MECHANISM": "SCRAM-SHA-256"},
        {"SASL_MECHANISM": "SCRAM-SHA-512"},
        CLEAR | {"SASL_MECHANISM": "PLAIN"},
        TOKEN,
        TOKEN | {"OAUTH_SCOPE": "kafka"},
        CLIENT_CERTIFICATE | {"CERTIFICATE_FILE": "{identities.client}"},
        CLIENT_CERTIFICATE | {"CERTIFICATE_FILE": "{identities.client}", "KEY_FILE": "{identities.client}"},
        CLIENT_CERTIFICATE
        | {
            "CERTIFICATE_FILE": "{identities.client_encrypted}",
            "KEY_PASSWORD": ESCAPED,
        },
    ],
)
def test_a_way_in(settings: Mapping[str, str], secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password has characters that shells, `.env` and SASL treat in their own ways."""
    assert connects(secured, monkeypatch, **settings) == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"PASSWORD": "wrong"}, "refused the login of anna with SCRAM-SHA-512: the user or the password is wrong"),
        ({"USERNAME": "nobody"}, "refused the login of nobody with SCRAM-SHA-512: the user or the password is wrong"),
        ({"SASL_MECHANISM": "PLAIN", "PASSWORD": "wrong"}, "refused the login of anna with PLAIN"),
        (
            CLEAR,
            "offers no login with SCRAM-SHA-512 here; see STREAMGAUGE_KAFKA_SASL_MECHANISM",
        ),
        ({"CA_FILE": "{identities.other_authority}"}, "certificate is signed by no authority that is trusted here"),
        ({"CA_FILE": ""}, "certificate is signed by no authority that is trusted here; see STREAMGAUGE_KAFKA_CA_FILE"),
        (UNSET | {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[EXPIRED]}", "SECURITY_PROTOCOL": "SSL"}, "has expired"),
        (
            UNSET | {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[MISNAMED]}", "SECURITY_PROTOCOL": "SSL"},
            "is of another address; see STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS",
        ),
        (CLIENT_CERTIFICATE, "wants a certificate that it accepts; see STREAMGAUGE_KAFKA_CERTIFICATE_FILE"),
        (CLIENT_CERTIFICATE | {"CERTIFICATE_FILE": "{identities.stranger}"}, "does not trust our certificate"),
        ({"BOOTSTRAP_SERVERS": "{plain}"}, "does not speak TLS, but STREAMGAUGE_KAFKA_SECURITY_PROTOCOL is SASL_SSL"),
        (
            UNSET | {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[LOGIN]}", "SECURITY_PROTOCOL": "PLAINTEXT", "CA_FILE": ""},
            "speaks TLS, but STREAMGAUGE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT; choose SSL or SASL_SSL",
        ),
        (UNSET | {"SECURITY_PROTOCOL": "SSL"}, "wants a login, but STREAMGAUGE_KAFKA_SECURITY_PROTOCOL is SSL"),
        (
            UNSET | {"BOOTSTRAP_SERVERS": "127.0.0.1:{ports[CLEAR]}", "SECURITY_PROTOCOL": "PLAINTEXT", "CA_FILE": ""},
            "wants a login, but STREAMGAUGE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT; choose SASL_PLAINTEXT",
        ),
        (
            {"BOOTSTRAP_SERVERS": "{plain}", "SECURITY_PROTOCOL": "SASL_PLAINTEXT", "CA_FILE": ""},
            "wants no login on this port; see STREAMGAUGE_KAFKA_SECURITY_PROTOCOL",
        ),
        (TOKEN | {"OAUTH_CLIENT_SECRET": "wrong"}, "gives anna no token: invalid_client"),
    ],
)
def test_a_wrong_way_in(
    settings: Mapping[str, str],
    problem: str,
    secured: SecuredKafka,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line, at once (it was not tried a second time), and no secret in it."""
    assert connects(secured, monkeypatch, **settings) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: 127.0.0.1:")
    assert problem in line
    assert "wrong" not in line.replace("is wrong", "")


def test_a_token_that_the_broker_refuses(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says so only when its first word, which has no error code, is answered."""
    monkeypatch.setattr(secured.tokens, "audience", "somebody else")
    assert connects(secured, monkeypatch, **TOKEN, OAUTH_SCOPE="refused") == 2
    assert "Kafka refused our token (OAUTHBEARER): " in capfd.readouterr().err


def test_a_refusal_at_the_advertised_address(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first connection is made, and all others are to another name, as behind a load balancer."""
    assert connects(secured, monkeypatch, BOOTSTRAP_SERVERS="127.0.0.1:{ports[ASTRAY]}") == 2
    *_of_aiokafka, line = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {secured.server('MISNAMED')}: the broker's certificate is of another address")


def test_a_token_endpoint_that_is_away_is_waited_for(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a broker is; and the last word names it."""
    away = TOKEN | {"OAUTH_TOKEN_URL": "http://127.0.0.1:1/token", "CONNECT_TIMEOUT_S": "1"}
    assert connects(secured, monkeypatch, **away) == 1
    assert "no token from http://127.0.0.1:1/token" in capfd.readouterr().err.splitlines()[-1]
