"""How this process shows Kafka who it is, read anew for each connection; and what a broker's refusal means."""

import asyncio
import contextlib
import ssl
import struct
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streamgauge.aiokafka_private import Address
from streamgauge.settings import KafkaSettings
from streamgauge.tokens import TokenProvider, TokenRefused, in_words, token_provider

log = structlog.get_logger(__name__)

FORGOTTEN_AFTER_S = 60.0
ASKING_TIMEOUT_S = 2.0
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 0, -1)
"""Kafka's first request, version 0, correlation id 0, no client id."""
METADATA = struct.pack(">ihhihi", 14, 3, 1, 1, -1, 0)
"""Version 1, of no topic."""
_SIZE = struct.Struct(">i")
CERTIFICATE_PROBLEMS = dict.fromkeys(
    range(18, 22), "is signed by no authority that is trusted here; see STREAMGAUGE_KAFKA_CA_FILE"
) | {
    9: "is not valid yet",
    10: "has expired",
    62: "is of another name; see STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS, and advertised.listeners on the broker",
    64: "is of another address; see STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS, and advertised.listeners on the broker",
}
"""By X509_V_ERR_… of OpenSSL."""
OUR_CERTIFICATE = "see STREAMGAUGE_KAFKA_CERTIFICATE_FILE"


class Access:
    """The credentials of one KafkaSettings. Secrets and certificates come from their files as these are when a
    connection is made, so that new ones need no restart.
    """

    def __init__(self, settings: KafkaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._stamps: Sequence[object] = ()
        self._options: dict[str, Any] = {}
        self._unreadable = ""
        self._tokens: TokenProvider | None = token_provider(settings)
        self._refusals: dict[Address, tuple[str, float]] = {}
        """By broker: why it did not let us in the last time, and when."""
        self.is_started = False
        """Whether Kafka was reached; before, what is refused is what the process ends with."""
        self.trouble: str | None = None
        """Whatever it was that failed last."""
        self._lost_s: dict[Address, float] = {}
        """Brokers that could not be connected to the last time, since when."""

    def options(self) -> dict[str, Any]:
        """aiokafka's arguments of a connection that is made now. Raises KafkaConnectionError."""
        stamps = [_stamp(file) for file in self._settings.credential_files]
        if not self._options or stamps != self._stamps:
            try:
                self._options = self._read()
            except ValueError as error:
                if not self._options:
                    raise KafkaConnectionError(str(error)) from None
                # Files that are being replaced one after another: the next connection sees the rest.
                if str(error) != self._unreadable:
                    log.warning("kafka.credentials_unreadable", problem=str(error))
                self._unreadable = str(error)
            else:
                self._stamps, self._unreadable = stamps, ""
        return self._options

    def _read(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {}
        if "SSL" in settings.security_protocol:
            options["ssl_context"] = settings.tls_context()
        if settings.security_protocol.startswith("SASL"):
            options["sasl_plain_username"] = settings.username
            options["sasl_plain_password"] = settings.secret("password")
            options["sasl_oauth_token_provider"] = self._tokens
            options["sasl_kerberos_service_name"] = settings.kerberos_service_name or "kafka"
        return options

    def accepted(self, address: Address) -> None:
        """A connection was made."""
        if self._refusals.pop(address, None):
            log.info("kafka.accepted_again", broker=_name(address))
        if (lost_s := self._lost_s.pop(address, None)) is not None:
            log.warning("kafka.connected_again", broker=_name(address), away_s=round(self._clock() - lost_s))
        self.trouble = None

    def refused(self, address: Address, error: BaseException) -> None:
        """A connection was not made. What does not say that we were refused changes nothing."""
        if self._tokens and isinstance(error, SaslAuthenticationFailed):
            self._tokens.forget()
        error = in_words(error)
        self.trouble = str(error) or type(error).__name__
        if why := why_refused(error, self._settings):
            self._refuse(address, why)
        elif self.is_started and address not in self._lost_s:
            self._lost_s[address] = self._clock()
            next_step = "tried again until it answers"
            log.warning("kafka.connection_lost", broker=_name(address), problem=self.trouble, next=next_step)

    def _refuse(self, address: Address, why: str) -> None:
        known, _told_s = self._refusals.get(address, ("", 0.0))
        if why != known and self.is_started:
            log.error("kafka.refused", broker=_name(address), problem=why)
        self._refusals[address] = why, self._clock()

    @property
    def refusal(self) -> str | None:
        """Why a broker does not let us in, None while all do. What was not said again for a minute is over: whoever
        needs that broker has tried again by then.
        """
        since_s = self._clock() - FORGOTTEN_AFTER_S
        for address, (why, told_s) in self._refusals.items():
            if told_s > since_s:
                return f"{_name(address)}: {why}"
        return None

    def is_refused_by(self, addresses: Collection[Address]) -> bool:
        """Whether each of these brokers has refused us."""
        return bool(addresses) and all(address in self._refusals for address in addresses)

    async def examine(self, addresses: Iterable[Address]) -> None:
        """Find out whether these brokers close our connections without a word because they expect others."""
        for address in addresses:
            if address not in self._refusals and (why := await _mismatch(self._settings, *address)):
                self._refuse(address, why)


def _name(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


@cache
def access(settings: KafkaSettings) -> Access:
    """The one Access of these settings: all clients share what it learns."""
    return Access(settings)


def _stamp(file: str) -> object:
    with contextlib.suppress(OSError):
        found = Path(file).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def why_refused(  # noqa: PLR0911 - one a case
    error: BaseException, settings: KafkaSettings
) -> str | None:
    """One line for people: why a broker did not let us in. None when the error does not say that it refused us."""
    mechanism, cause = settings.sasl_mechanism, error.__cause__
    match error:
        case ssl.SSLCertVerificationError():
            problem = CERTIFICATE_PROBLEMS.get(error.verify_code, f"is not accepted: {error.verify_message}")
            return f"the broker's certificate {problem}"
        case ssl.SSLError():
            return _alert(error)
        case KafkaConnectionError() if isinstance(cause, ssl.SSLError):
            return _alert(cause)
        case SaslAuthenticationFailed() if settings.username:
            return (
                f"Kafka refused the login of {settings.username} with {mechanism}: the user or the password is wrong; "
                "see STREAMGAUGE_KAFKA_USERNAME and STREAMGAUGE_KAFKA_PASSWORD"
            )
        case SaslAuthenticationFailed() if mechanism == "GSSAPI":
            return "Kafka refused our ticket: the broker's keytab holds other keys than Kerberos, or a clock is wrong"
        case SaslAuthenticationFailed():
            return f"Kafka refused our token ({mechanism}): {error.args[0] if error.args else 'it does not say why'}"
        case UnsupportedSaslMechanismError():
            return f"the broker offers no login with {mechanism} here; see STREAMGAUGE_KAFKA_SASL_MECHANISM"
        case IllegalSaslStateError():
            return "the broker wants no login on this port; see STREAMGAUGE_KAFKA_SECURITY_PROTOCOL"
        case TokenRefused():
            return str(error)
    return None


def _alert(error: ssl.SSLError) -> str | None:
    """What the broker says of our certificate, by TLS's alerts (RFC 8446, section 6.2)."""
    match (error.reason or "").rpartition("_ALERT_")[2]:
        case "HANDSHAKE_FAILURE":
            return f"the broker wants a certificate that it accepts, or has no cipher of ours; {OUR_CERTIFICATE}"
        case "CERTIFICATE_REQUIRED" | "BAD_CERTIFICATE":
            return f"the broker wants a certificate that it accepts; {OUR_CERTIFICATE}"
        case "CERTIFICATE_EXPIRED":
            return f"our certificate has expired; {OUR_CERTIFICATE}"
        case "UNKNOWN_CA" | "CERTIFICATE_UNKNOWN" | "UNSUPPORTED_CERTIFICATE":
            return f"the broker does not trust our certificate: its authority, or its time; {OUR_CERTIFICATE}"
        case "PROTOCOL_VERSION":
            return "the broker speaks no version of TLS that is allowed here"
    return None


async def _mismatch(settings: KafkaSettings, host: str, port: int) -> str | None:
    uses_tls = "SSL" in settings.security_protocol
    protocol = f"STREAMGAUGE_KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}"
    for speaks_tls in (uses_tls, not uses_tls):
        answer = await ask(host, port, with_tls=speaks_tls)
        if answer is Answer.NONE:
            continue
        if speaks_tls and not uses_tls:
            return f"it speaks TLS, but {protocol}; choose SSL or SASL_SSL"
        if uses_tls and not speaks_tls:
            return f"it does not speak TLS, but {protocol}; choose PLAINTEXT or SASL_PLAINTEXT"
        if answer is Answer.CLOSED and not settings.security_protocol.startswith("SASL"):
            return f"it wants a login, but {protocol}; choose SASL_{'SSL' if uses_tls else 'PLAINTEXT'}"
        return None
    return None


class Answer(Enum):
    """What a port answers to Kafka's first two questions."""

    NONE = auto()
    """Not even the first, or by its silence."""
    CLOSED = auto()
    """The first; at the second, which only who has logged in may ask, it closes the connection."""
    BOTH = auto()


async def _is_open(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has not closed the connection when it says something, or for long has said nothing."""
    try:
        async with asyncio.timeout(ASKING_TIMEOUT_S / 2):
            return bool(await reader.read(1))
    except ConnectionError:
        return False
    except TimeoutError:
        return True


async def ask(host: str, port: int, *, with_tls: bool) -> Answer:
    """Ask whoever it is, with TLS or without."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    found = Answer.NONE
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(ASKING_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=anybody if with_tls else None)
            try:
                if with_tls:
                    found = Answer.BOTH  # whatever else it does, it speaks TLS
                writer.write(API_VERSIONS)
                await reader.readexactly(_SIZE.unpack(await reader.readexactly(_SIZE.size))[0])
                writer.write(METADATA)
                found = Answer.BOTH if await _is_open(reader) else Answer.CLOSED
            finally:
                writer.close()
                await writer.wait_closed()
    return found
