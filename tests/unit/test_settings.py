"""Settings are refused by name, with what is allowed; secrets are never shown."""

from pathlib import Path

import certifi
import pytest

from streamgauge.access import access
from streamgauge.commands.patience import KafkaForPeople
from streamgauge.errors import ConfigurationError
from streamgauge.kafka import client_options
from streamgauge.settings import KafkaSettings, TopicSettings, load
from worker.settings import WorkerSettings, allowed_cores, usable_cores

LOGIN = {"security_protocol": "SASL_SSL"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_and_dot_env_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over `.env`, an option given over both, an option not given over nothing."""
    (tmp_path / ".env").write_text("STREAMGAUGE_WORKER_GROUP=dotenv\nSTREAMGAUGE_WORKER_MAX_RECORDS=9\n")
    monkeypatch.setenv("STREAMGAUGE_WORKER_GROUP", "environment")
    assert load(WorkerSettings, http_port=None).group == "environment"
    assert load(WorkerSettings).max_records == 9
    assert load(WorkerSettings, group="option").group == "option"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("STREAMGAUGE_WORKER_MAX_BATCH_TOKEN", "STREAMGAUGE_WORKER_MAX_BATCH_TOKENS"),
        ("STREAMGAUGE_WRKER_GROUP", "STREAMGAUGE_WORKER_GROUP"),
        ("STREAMGAUGE_WORKER_MAX_DEAD_LETTER_SHARE", "STREAMGAUGE_WORKER_MAX_FAILED_SHARE"),
    ],
)
def test_a_misspelt_name_is_refused(name: str, nearest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nothing reads stops the start, and the nearest known name is given."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=f"{name}: no such setting; the nearest is {nearest}"):
        load(WorkerSettings)


def test_a_misspelt_name_in_dot_env_is_refused(tmp_path: Path) -> None:
    """`.env` is held to the same."""
    (tmp_path / ".env").write_text("STREAMGAUGE_KAFKA_BOOTSTRAP_SERVER=x:1\n")
    with pytest.raises(ConfigurationError, match="STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS"):
        load(KafkaSettings)


def test_another_sections_names_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment serves all services."""
    monkeypatch.setenv("STREAMGAUGE_LISTENER_HTTP_PORT", "1")
    load(WorkerSettings)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("STREAMGAUGE_WORKER_MAX_BATCH_TOKENS", "many", "valid integer"),
        ("STREAMGAUGE_WORKER_MAX_TOKENS", "513", "less than or equal to 512"),
        ("STREAMGAUGE_WORKER_START_FROM", "middle", "'earliest' or 'latest'"),
        ("STREAMGAUGE_WORKER_GROUP", "a/b", "pattern"),
        ("STREAMGAUGE_WORKER_AUDIT_SHARE", "1.5", "less than or equal to 1"),
        ("STREAMGAUGE_WORKER_AUDIT_SALT", "x" * 65, "pattern"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting and what is allowed."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}: .*{allowed}") as caught:
        load(WorkerSettings)
    assert caught.value.exit_code == 2


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password reaches the client, but no representation of the settings."""
    monkeypatch.setenv("STREAMGAUGE_KAFKA_USERNAME", "u")
    monkeypatch.setenv("STREAMGAUGE_KAFKA_PASSWORD", "hush")
    settings = load(KafkaSettings, security_protocol="SASL_PLAINTEXT")
    assert "hush" not in repr(settings)
    assert "hush" not in repr(client_options(settings))
    assert access(settings).options()["sasl_plain_password"] == "hush"


def test_dot_env_is_read_as_it_stands(tmp_path: Path) -> None:
    """A password may hold what shells expand; quotes are for blanks and for `#`."""
    (tmp_path / ".env").write_text("STREAMGAUGE_KAFKA_USERNAME=u\nSTREAMGAUGE_KAFKA_PASSWORD='a ${HOME} $x #1'\n")
    assert load(KafkaSettings, security_protocol="SASL_SSL").secret("password") == "a ${HOME} $x #1"


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """As Docker and Kubernetes mount them; read when it is needed, so that a new one counts."""
    file = tmp_path / "password"
    file.write_text("first\n")
    settings = load(KafkaSettings, security_protocol="SASL_SSL", username="u", password_file=str(file))
    file.write_text("second")
    assert access(settings).options()["sasl_plain_password"] == "second"


def test_topics_share_the_prefix() -> None:
    """One prefix names all topics."""
    topics = load(TopicSettings, prefix="shop")
    assert (topics.input, *topics.outputs) == (
        "shop.input",
        "shop.results",
        "shop.metrics",
        "shop.dead-letter",
        "shop.audit",
    )


def test_kubernetes_service_links_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named after us puts variables of our prefix into every pod; they stop nothing."""
    monkeypatch.setenv("STREAMGAUGE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("STREAMGAUGE_WORKER_PORT", "tcp://10.0.0.1:8001")
    monkeypatch.setenv("STREAMGAUGE_WORKER_PORT_8001_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("STREAMGAUGE_WORKER_SERVICE_PORT_METRICS", "8001")
    load(WorkerSettings)


@pytest.mark.parametrize("name", ["STREAMGAUGE_WORKER_PORT", "STREAMGAUGE_WORKER_METRICS_PORT", "STREAMGAUGE_PORT"])
def test_a_port_that_is_no_setting_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks like what Kubernetes sets, but for its value."""
    monkeypatch.setenv(name, "8001")
    with pytest.raises(ConfigurationError, match=f"{name}: no such setting; the nearest is"):
        load(WorkerSettings)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"bootstrap_servers": "localhost:abc"}, "BOOTSTRAP_SERVERS must be host:port"),
        ({"bootstrap_servers": "localhost:9092/"}, "BOOTSTRAP_SERVERS must be host:port"),
        ({"bootstrap_servers": "http://localhost:9092"}, "BOOTSTRAP_SERVERS must be host:port, without http://"),
        ({"bootstrap_servers": "a:1,SSL://b:1"}, "BOOTSTRAP_SERVERS must be host:port, without SSL://"),
        (LOGIN, "SECURITY_PROTOCOL=SASL_SSL with SASL_MECHANISM=PLAIN needs USERNAME and PASSWORD"),
        ({"sasl_mechanism": "GSSAPI"}, "SASL_MECHANISM would not be used with SECURITY_PROTOCOL=PLAINTEXT"),
        ({"username": "u"}, "USERNAME would not be used with SECURITY_PROTOCOL=PLAINTEXT; choose SASL_SSL"),
        ({"password": "p", "security_protocol": "SSL"}, "PASSWORD would not be used with SECURITY_PROTOCOL=SSL"),
        (LOGIN | {"sasl_mechanism": "OAUTHBEARER"}, ".*needs OAUTH_TOKEN_URL, OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET"),
        (LOGIN | {"sasl_mechanism": "AWS_MSK_IAM"}, ".*needs AWS_REGION"),
        (LOGIN | {"sasl_mechanism": "GSSAPI", "username": "u"}, "USERNAME would not be used: .* SASL_MECHANISM=GSSAPI"),
        (LOGIN | {"kerberos_service_name": "k", "username": "u", "password": "p"}, "KERBEROS_SERVICE_NAME would not"),
        (
            LOGIN | {"sasl_mechanism": "AWS_MSK_IAM", "aws_region": "eu-west-1", "password": "p"},
            "PASSWORD would not be used: SECURITY_PROTOCOL=SASL_SSL with SASL_MECHANISM=AWS_MSK_IAM",
        ),
        (
            LOGIN | {"username": "u", "password": "p", "password_file": __file__},
            "PASSWORD and PASSWORD_FILE are both set",
        ),
        (LOGIN | {"username": "u", "password_file": "/nowhere"}, "PASSWORD_FILE=/nowhere cannot be read: No such file"),
        (LOGIN | {"username": "u", "password_file": "/dev/null"}, "PASSWORD_FILE=/dev/null is empty"),
        ({"ca_file": certifi.where()}, "CA_FILE would not be used with SECURITY_PROTOCOL=PLAINTEXT; choose SASL_SSL"),
        ({"key_file": "k", "security_protocol": "SSL"}, "KEY_FILE would not be used without CERTIFICATE_FILE"),
        ({"certificate_file": "/nowhere", "security_protocol": "SSL"}, "CERTIFICATE_FILE=/nowhere cannot be read"),
        (
            {"certificate_file": certifi.where(), "security_protocol": "SSL"},
            "CERTIFICATE_FILE=.* and KEY_FILE=.* must hold a certificate and its key in PEM",
        ),
        ({"ca_file": "/nowhere", "security_protocol": "SSL"}, "CA_FILE=/nowhere cannot be read: No such file"),
        ({"ca_file": "/", "security_protocol": "SSL"}, "CA_FILE=/ cannot be read: Is a directory"),
        ({"ca_file": "/dev/null", "security_protocol": "SSL"}, "CA_FILE=/dev/null holds no certificate in PEM"),
        ({"ca_file": __file__, "security_protocol": "SSL"}, f"CA_FILE={__file__} holds no certificate in PEM"),
    ],
)
def test_what_kafka_needs_is_checked_together(given: dict[str, str], problem: str) -> None:
    """What cannot work is refused by name before anything is connected."""
    with pytest.raises(ConfigurationError, match=f"STREAMGAUGE_KAFKA_{problem}"):
        load(KafkaSettings, **given)


def test_a_person_waits_less_for_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than a service, and than for later ones; what the user has set counts for both."""
    assert (load(KafkaForPeople).reach_timeout_s, load(KafkaForPeople).connect_timeout_s) == (5, 60)
    assert load(KafkaSettings).reach_timeout_s == 60
    monkeypatch.setenv("STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S", "60")
    assert load(KafkaForPeople).reach_timeout_s == 60


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass `${NAME:-}` for what is not set."""
    monkeypatch.setenv("STREAMGAUGE_WORKER_START_FROM", "")
    assert load(WorkerSettings).start_from is None


def test_a_profile_changes_defaults_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set by name counts more than the profile."""
    monkeypatch.setenv("STREAMGAUGE_WORKER_PROFILE", "latency")
    monkeypatch.setenv("STREAMGAUGE_WORKER_COMMIT_INTERVAL_S", "0.5")
    settings, default = load(WorkerSettings, max_records=7), WorkerSettings(profile="throughput")
    assert settings.max_batch_tokens < default.max_batch_tokens
    assert settings.commit_cpu_share > default.commit_cpu_share
    assert (settings.commit_interval_s, settings.max_records) == (0.5, 7)
    monkeypatch.setenv("STREAMGAUGE_WORKER_PROFILE", "speed")
    with pytest.raises(ConfigurationError, match="WORKER_PROFILE: Input should be 'throughput' or 'latency'"):
        load(WorkerSettings)


def test_a_containers_quota_counts_in_whole_cores(tmp_path: Path) -> None:
    """Never fewer than one core, never more than the affinity says."""
    cores, quota = usable_cores(tmp_path / "none"), tmp_path / "cpu.max"
    for text, expected in (("max 100000", cores), ("150000 100000", 1), ("50000 100000", 1), ("99000000 1000", cores)):
        quota.write_text(f"{text}\n")
        assert usable_cores(quota) == expected
    quota.write_text("50000 100000\n")
    assert allowed_cores(quota) == 0.5
