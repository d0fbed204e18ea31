"""Settings from the environment and `.env`: validated by name, frozen, secrets never printed.

Each part of Streamgauge has one class, and each class one prefix, so a misspelt name is an error and
not a silently ignored variable.
"""

import difflib
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from dotenv import dotenv_values
from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from streamgauge.errors import ConfigurationError
from streamgauge.terminal import is_text
from streamgauge.tls import tls_context

PREFIX = "STREAMGAUGE_"
DAY_MS = 86_400_000
SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP).*)=.*|.*_PORT=\w+://.*")
"""Kubernetes gives every pod such variables for a Service, and a Service may be named after us. In a Service's …_PORT
stands an address, so a port that somebody sets by a name that does not exist can be told from it."""
SECTIONS = ("KAFKA_", "TOPIC_", "LOG_", "WORKER_", "LISTENER_", "PRODUCER_", "APP_")

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """Base of all settings; a subclass names its section with `env_prefix`. An empty variable is an unset one."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_others: Any, **_more: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then `.env`, which is read as it stands: a `$` in a password is a `$`."""
        environment = EnvSettingsSource(settings_cls)
        environment.env_vars = {name.lower(): value for name, value in _environment().items() if value}
        return init_settings, environment


LOGINS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "PLAIN": (("username", "password"), ()),
    "SCRAM-SHA-256": (("username", "password"), ()),
    "SCRAM-SHA-512": (("username", "password"), ()),
    "OAUTHBEARER": (("oauth_token_url", "oauth_client_id", "oauth_client_secret"), ("oauth_scope",)),
    "AWS_MSK_IAM": (("aws_region",), ()),
    "GSSAPI": ((), ("kerberos_service_name",)),
}
"""By mechanism: the settings that a login needs, and those that it may have besides."""
TLS_FILES = ("ca_file", "certificate_file", "key_file")
SECRETS = ("password", "oauth_client_secret", "key_password")
"""Each may come from a file."""


class KafkaSettings(Settings):
    """How to reach Kafka. A secret is given as it is or, with `…_FILE`, by the file that holds it."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}KAFKA_")

    bootstrap_servers: str = Field("localhost:9092", description="host:port, several with commas")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: TLS; SASL: with a login"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] = Field(
        "PLAIN", description="of the login"
    )
    username: str | None = Field(None, description="of a login by password")
    password: SecretStr | None = Field(None, description="of a login by password")
    password_file: str | None = Field(None, description="file that holds it")
    oauth_token_url: str | None = Field(None, description="where a token is had for the client's id and secret")
    oauth_client_id: str | None = Field(None, description="as the token endpoint knows us")
    oauth_client_secret: SecretStr | None = Field(None, description="of that id")
    oauth_client_secret_file: str | None = Field(None, description="file that holds it")
    oauth_scope: str | None = Field(None, description="asked for with the token")
    aws_region: str | None = Field(None, description="of the MSK cluster; credentials as boto3 finds them")
    kerberos_service_name: str | None = Field(None, description="the brokers' name before the slash; else kafka")
    ca_file: str | None = Field(None, description="PEM file of the authority that signed the brokers")
    certificate_file: str | None = Field(None, description="PEM file of our own certificate, with its chain")
    key_file: str | None = Field(None, description="PEM file of its key, if that is not in the same file")
    key_password: SecretStr | None = Field(None, description="of the key, if that is encrypted")
    key_password_file: str | None = Field(None, description="file that holds it")
    connect_timeout_s: float = Field(
        60,
        gt=0,
        le=86_400,
        description="exit 1 when no broker answers for so long; unset, people's commands wait 5 s for the first answer",
    )

    @property
    def reach_timeout_s(self) -> float:
        """How long the first broker may take to answer; `connect_timeout_s` bounds every later silence."""
        return self.connect_timeout_s

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for server in self.bootstrap_servers.split(","):
            if scheme := re.match(r"\w+://", server):
                raise ValueError(f"BOOTSTRAP_SERVERS must be host:port, without {scheme[0]}")
            if not re.fullmatch(r"[^\s,/]+:\d{1,5}", server):
                raise ValueError("BOOTSTRAP_SERVERS must be host:port, several with commas")
        self._check_login()
        for name in SECRETS:
            self._check_secret(name)
        self._check_tls()
        return self

    def secret(self, name: str) -> str | None:
        """A secret as it is now: its file may have changed. Raises ValueError when that cannot be read, or is empty."""
        given, file = getattr(self, name), getattr(self, f"{name}_file")
        if not file:
            return given.get_secret_value() if given else None
        try:
            found = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"{name.upper()}_FILE={file} cannot be read: {why}") from None
        if not found:
            raise ValueError(f"{name.upper()}_FILE={file} is empty")
        return found

    def _is_given(self, name: str) -> bool:
        return bool(getattr(self, name) or getattr(self, f"{name}_file", None))

    def _check_login(self) -> None:
        """What the login needs is there, and nothing is set that would silently not be used."""
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        every = dict.fromkeys(name for needed, further in LOGINS.values() for name in needed + further)
        given = [name for name in every if self._is_given(name)]
        if not protocol.startswith("SASL"):
            given += ["sasl_mechanism"] if "sasl_mechanism" in self.model_fields_set else []
            if given:
                raise ValueError(
                    f"{_listed(given)} would not be used with SECURITY_PROTOCOL={protocol}; choose SASL_SSL"
                )
            return
        needed, further = LOGINS[mechanism]
        login = f"SECURITY_PROTOCOL={protocol} with SASL_MECHANISM={mechanism}"
        if missing := [name for name in needed if name not in given]:
            raise ValueError(f"{login} needs {_listed(missing)}")
        if unused := [name for name in given if name not in needed + further]:
            raise ValueError(f"{_listed(unused)} would not be used: {login}")

    def _check_secret(self, name: str) -> None:
        if getattr(self, name) and getattr(self, f"{name}_file"):
            raise ValueError(f"{name.upper()} and {name.upper()}_FILE are both set; choose one")
        self.secret(name)

    def _check_tls(self) -> None:
        protocol = self.security_protocol
        given = [name for name in (*TLS_FILES, "key_password") if self._is_given(name)]
        if given and "SSL" not in protocol:
            raise ValueError(f"{_listed(given)} would not be used with SECURITY_PROTOCOL={protocol}; choose SASL_SSL")
        if not self.certificate_file and (unused := [name for name in given if name.startswith("key")]):
            raise ValueError(f"{_listed(unused)} would not be used without CERTIFICATE_FILE")
        if given:
            self.tls_context()

    def tls_context(self) -> ssl.SSLContext:
        """From the files as they are now. Raises ValueError, which names the setting."""
        return tls_context(self.ca_file, self.certificate_file, self.key_file, self.secret("key_password"))

    @property
    def credential_files(self) -> list[str]:
        """What a login is made of besides the settings themselves."""
        names = (*TLS_FILES, *(f"{name}_file" for name in SECRETS))
        return [file for name in names if (file := getattr(self, name))]


def _listed(names: Sequence[str]) -> str:
    """USERNAME and PASSWORD, as people write it."""
    *first, last = [name.upper() for name in names]
    return f"{', '.join(first)} and {last}" if first else last


class TopicSettings(Settings):
    """Names and limits of the topics."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TOPIC_")

    prefix: TopicName = Field("sentiment", description="what the names of all topics begin with")
    max_message_bytes: int = Field(1_048_588, ge=1024, le=64 * 2**20, description="largest input record batch")
    join_window_days: float = Field(7, gt=0, le=365, description="how long a label may come after its prediction")

    @property
    def input(self) -> str:
        return f"{self.prefix}.input"

    @property
    def results(self) -> str:
        return f"{self.prefix}.results"

    @property
    def metrics(self) -> str:
        return f"{self.prefix}.metrics"

    @property
    def feedback(self) -> str:
        return f"{self.prefix}.feedback"

    @property
    def dead_letter(self) -> str:
        return f"{self.prefix}.dead-letter"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def outputs(self) -> tuple[str, str, str, str]:
        """The topics that the worker writes: partition p of each takes the output of input partition p."""
        return self.results, self.metrics, self.dead_letter, self.audit

    @property
    def joined(self) -> tuple[str, str, str]:
        """The topics that the listener reads."""
        return self.results, self.feedback, self.audit

    @property
    def every(self) -> tuple[str, ...]:
        return self.input, *self.outputs, self.feedback

    @property
    def join_window_ms(self) -> int:
        return round(self.join_window_days * DAY_MS)


class LogSettings(Settings):
    """What is logged, and how."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LOG_")

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="from which level up")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")


class ServiceSettings(Settings):
    """What every long-running service has."""

    # A service in a container is scraped from outside.
    http_host: str = Field("0.0.0.0", description="where /metrics, /livez and /readyz are served")  # noqa: S104
    http_port: Port = Field(0, description="their port; 0: a free one")


def load(settings: type[S], **overrides: Any) -> S:
    """Read one section; an override that is None (a command-line option not given) is ignored.

    Raises ConfigurationError: an unknown name (with the nearest known one), or a value that is not allowed.
    """
    _refuse_unknown_names(settings)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return settings(**given)
    except ValidationError as error:
        lines = [_explain(settings, problem["loc"], problem["msg"]) for problem in error.errors(include_input=False)]
        raise ConfigurationError("\n".join(lines)) from None


def _explain(settings: type[Settings], loc: tuple[int | str, ...], message: str) -> str:
    prefix = settings.model_config.get("env_prefix", PREFIX)
    name = "_".join(str(part) for part in loc).upper()
    return f"{prefix}{name}: {message}" if name else f"{prefix}{message.removeprefix('Value error, ')}"


def _environment() -> dict[str, str]:
    """All that is set, in capitals; the environment counts more than `.env`."""
    try:
        from_file = dotenv_values(".env", interpolate=False)
    except UnicodeDecodeError:
        raise ConfigurationError("the file .env is not UTF-8") from None
    return {name.upper(): value or "" for name, value in {**from_file, **os.environ}.items()}


def _refuse_unknown_names(settings: type[Settings]) -> None:
    prefix = settings.model_config["env_prefix"]
    known = {f"{prefix}{name}".upper() for name in settings.model_fields}
    for name, value in _environment().items():
        if name.startswith(PREFIX) and not is_text(name + value):
            raise ConfigurationError(f"{ascii(name)[1:-1]} is not UTF-8")
        if not name.startswith(PREFIX) or name in known or SERVICE_LINK.fullmatch(f"{name}={value}"):
            continue
        in_a_section = any(name.startswith(PREFIX + section) for section in SECTIONS)
        if name.startswith(prefix) or not in_a_section:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ConfigurationError(f"{name}: no such setting; the nearest is {near[0]}")
