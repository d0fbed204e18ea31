"""Settings from the environment and `.env`: validated by name, frozen, secrets never printed.

Each part of Streamgauge has one class, and each class one prefix, so a misspelt name is an error and
not a silently ignored variable.
"""

import difflib
import os
import re
import ssl
from typing import Annotated, Any, Literal, Self, TypeVar

from dotenv import dotenv_values
from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamgauge.errors import ConfigurationError

PREFIX = "STREAMGAUGE_"
DAY_MS = 86_400_000
SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP).*)?)")
"""Kubernetes gives every pod such variables for a Service, and a Service may be named after us."""
SECTIONS = ("KAFKA_", "TOPIC_", "LOG_", "WORKER_", "LISTENER_", "PRODUCER_")

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """Base of all settings; a subclass names its section with `env_prefix`. An empty variable is an unset one."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class KafkaSettings(Settings):
    """How to reach Kafka."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}KAFKA_")

    bootstrap_servers: str = Field("localhost:9092", description="host:port, several with commas")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = Field(None, description="PEM file of the authority that signed the brokers")
    connect_timeout_s: float = Field(60, gt=0, le=86_400, description="exit 1 when no broker answers for so long")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not all(re.fullmatch(r"[^\s,]+:\d{1,5}", server) for server in self.bootstrap_servers.split(",")):
            raise ValueError("BOOTSTRAP_SERVERS must be host:port, several with commas")
        protocol = self.security_protocol
        if protocol.startswith("SASL"):
            if not (self.username and self.password):
                raise ValueError(f"SECURITY_PROTOCOL={protocol} needs USERNAME and PASSWORD")
        elif self.username or self.password:
            raise ValueError(f"USERNAME and PASSWORD are not sent with SECURITY_PROTOCOL={protocol}; choose SASL_SSL")
        if self.ca_file:
            if "SSL" not in protocol:
                raise ValueError(f"CA_FILE is not used with SECURITY_PROTOCOL={protocol}; choose SSL or SASL_SSL")
            _check_authority(self.ca_file)
        return self


def _check_authority(file: str) -> None:
    """Raises ValueError unless the file holds certificates in PEM."""
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ValueError(f"CA_FILE={file} holds no certificate in PEM") from None
    except OSError as error:
        raise ValueError(f"CA_FILE={file} cannot be read: {error.strerror}") from None


class TopicSettings(Settings):
    """Names and limits of the topics."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TOPIC_")

    prefix: TopicName = "sentiment"
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
    def outputs(self) -> tuple[str, str, str]:
        """The topics that the worker writes: partition p of each takes the output of input partition p."""
        return self.results, self.metrics, self.dead_letter

    @property
    def joined(self) -> tuple[str, str]:
        """The topics that the listener reads."""
        return self.results, self.feedback

    @property
    def every(self) -> tuple[str, ...]:
        return self.input, *self.outputs, self.feedback

    @property
    def join_window_ms(self) -> int:
        return round(self.join_window_days * DAY_MS)


class LogSettings(Settings):
    """What is logged, and how."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")


class ServiceSettings(Settings):
    """What every long-running service has; `http_port` 0 picks a free one."""

    http_host: str = "0.0.0.0"  # noqa: S104 - a service in a container is scraped from outside
    http_port: Port = 0


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


def is_text(given: str) -> bool:
    """Whether it can be encoded: bytes of the system that are not UTF-8 are lone surrogates in Python."""
    return not any("\ud800" <= char <= "\udfff" for char in given)


def _environment() -> dict[str, str]:
    """All that is set, in capitals; the environment counts more than `.env`."""
    try:
        from_file = dotenv_values(".env")
    except UnicodeDecodeError:
        raise ConfigurationError("the file .env is not UTF-8") from None
    return {name.upper(): value or "" for name, value in {**from_file, **os.environ}.items()}


def _refuse_unknown_names(settings: type[Settings]) -> None:
    prefix = settings.model_config["env_prefix"]
    known = {f"{prefix}{name}".upper() for name in settings.model_fields}
    for name, value in _environment().items():
        if name.startswith(PREFIX) and not is_text(name + value):
            raise ConfigurationError(f"{ascii(name)[1:-1]} is not UTF-8")
        if not name.startswith(PREFIX) or name in known or SERVICE_LINK.fullmatch(name):
            continue
        in_a_section = any(name.startswith(PREFIX + section) for section in SECTIONS)
        if name.startswith(prefix) or not in_a_section:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ConfigurationError(f"{name}: no such setting; the nearest is {near[0]}")
