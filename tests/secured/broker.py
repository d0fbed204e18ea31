"""A Kafka that asks who one is, in every way that Kafka has, and what one may."""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trustme
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives import serialization

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.rights import Right
from tests.secured.tokens import TokenEndpoint, token_endpoint

PASSWORD = "a pass$word, ${HOME}"
USERS = ("anna", "worker", "listener", "producer", "labeller", "auditor", "reader", "page", "operator")
LISTENERS = {
    "LOGIN": "SASL_SSL",
    "CLEAR": "SASL_PLAINTEXT",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "MISNAMED": "SSL",
    "ASTRAY": "SASL_SSL",
}
SESSION_MS = 5000
"""For so long a login holds; aiokafka does not log in again on the same connection, so the broker closes it then."""
LONG_SESSION_MS = 600_000
"""Of a login with LASTING, for what takes a busy machine longer, and is no test of logins."""
LASTING = "SCRAM-SHA-256"
NAME_OF = "RULE:^.*CN=([^,]+).*$/$1/"
"""Of a certificate: who its owner is to Kafka."""
PACKAGE = "org.apache.kafka.common.security"


class Identities:
    """An authority, another one, and what they have signed; all as PEM files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority, other = trustme.CA(), trustme.CA()
        yesterday = datetime.now(UTC) - timedelta(days=1)
        self.authority, self.other_authority = folder / "ca.pem", folder / "other-ca.pem"
        authority.cert_pem.write_to_path(self.authority)
        other.cert_pem.write_to_path(self.other_authority)
        self.broker = self._write("broker", authority.issue_cert("127.0.0.1", "localhost"))
        self.expired = self._write("expired", authority.issue_cert("127.0.0.1", not_after=yesterday))
        self.misnamed = self._write("misnamed", authority.issue_cert("elsewhere.example"))
        client = authority.issue_cert("anna.example", common_name="anna")
        self.client = self._write("client", client)
        self.client_encrypted = self._write("client-encrypted", client, password=PASSWORD)
        self.stranger = self._write("stranger", other.issue_cert("anna.example", common_name="anna"))

    def _write(self, name: str, leaf: trustme.LeafCert, password: str | None = None) -> Path:
        """Key and chain in one file, the key as Kafka's own PEM reader takes it."""
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        sealed = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
        path = self._folder / f"{name}.pem"
        path.write_bytes(pem + b"".join(chain.bytes() for chain in leaf.cert_chain_pems))
        return path


class SecuredKafka:
    """The running broker: its ports, its users, its identities."""

    def __init__(
        self, ports: Mapping[str, int], identities: Identities, tokens: TokenEndpoint, embedded: EmbeddedKafka
    ) -> None:
        self.ports, self.identities, self.tokens, self.embedded = ports, identities, tokens, embedded
        self.plain = embedded.bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": self.plain, "log_level": 0})

    def server(self, listener: str) -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    def set_password(self, user: str, password: str) -> None:
        """For SCRAM."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            credential = UserScramCredentialUpsertion(user, ScramCredentialInfo(mechanism, 4096), password.encode())
            for done in self._admin.alter_user_scram_credentials([credential]).values():
                done.result()

    async def grant(self, user: str, rights: Iterable[Right]) -> None:
        await allow(self._admin, user, rights)

    async def take(self, user: str, rights: Iterable[Right]) -> None:
        taken = set(bindings(user, rights))
        for one in taken:
            pattern, who = one.resource_pattern_type, (one.principal, one.host)
            same = AclBindingFilter(one.restype, one.name, pattern, *who, one.operation, one.permission_type)
            for done in self._admin.delete_acls([same]).values():
                assert await asyncio.to_thread(done.result), f"there was no {one}"
        while taken & await known(self._admin, user):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def environment(self, user: str = "anna", **settings: str) -> dict[str, str]:
        """What a command needs to log in as this user."""
        return {
            "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": self.server("LOGIN"),
            "STREAMGAUGE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "STREAMGAUGE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "STREAMGAUGE_KAFKA_USERNAME": user,
            "STREAMGAUGE_KAFKA_PASSWORD": PASSWORD,
            "STREAMGAUGE_KAFKA_CA_FILE": str(self.identities.authority),
        } | settings


async def allow(admin: AdminClient, user: str, rights: Iterable[Right]) -> None:
    """Give a user rights; the broker knows of them when this returns."""
    wanted = set(bindings(user, rights))
    for done in admin.create_acls(list(wanted)).values():
        await asyncio.to_thread(done.result)
    while not wanted <= await known(admin, user):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def known(admin: AdminClient, user: str) -> set[AclBinding]:
    """What the broker itself, which learns of it later than the controller, lets the user do."""
    anything: Any = None
    kinds = ResourceType.ANY, anything, ResourcePatternType.ANY
    every = AclBindingFilter(*kinds, f"User:{user}", anything, AclOperation.ANY, AclPermissionType.ANY)
    return set(await asyncio.to_thread(admin.describe_acls(every).result))


def bindings(user: str, rights: Iterable[Right]) -> Iterator[AclBinding]:
    """As Kafka knows them."""
    types = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID"}
    codes = {"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}
    for right in rights:
        for operation in right.operations:
            yield AclBinding(
                ResourceType[types[right.resource]],
                right.name,
                ResourcePatternType["PREFIXED" if right.is_prefix else "LITERAL"],
                f"User:{user}",
                "*",
                AclOperation[codes.get(operation, operation.upper())],
                AclPermissionType.ALLOW,
            )


@contextmanager
def secured_kafka(folder: Path, version: str, session_ms: int = SESSION_MS) -> Iterator[SecuredKafka]:
    identities = Identities(folder)
    with ExitStack() as stack:
        tokens = stack.enter_context(token_endpoint())
        ports = _free_ports()
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.url}/keys"
        stack.enter_context(patch.dict(os.environ, {"JAVA_TOOL_OPTIONS": allowed}))
        settings = _settings(ports, identities, tokens, session_ms)
        embedded = stack.enter_context(EmbeddedKafka(version=version, settings=settings))
        secured = SecuredKafka(ports, identities, tokens, embedded)
        for user in USERS:
            secured.set_password(user, PASSWORD)
        yield secured


def _free_ports() -> dict[str, int]:
    with ExitStack() as stack:
        held = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in LISTENERS}
        return {name: one.getsockname()[1] for name, one in held.items()}


def _settings(
    ports: Mapping[str, int], identities: Identities, tokens: TokenEndpoint, session_ms: int
) -> dict[str, str]:
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    astray = addresses.replace(f"ASTRAY://127.0.0.1:{ports['ASTRAY']}", f"ASTRAY://127.0.0.1:{ports['MISNAMED']}")
    settings = {
        "listeners": addresses,
        "advertised.listeners": astray,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in LISTENERS.items()),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:anna",
        "sasl.oauthbearer.jwks.endpoint.url": f"{tokens.url}/keys",
        "sasl.oauthbearer.expected.audience": "kafka",
        "sasl.oauthbearer.expected.issuer": "tests",
    }
    keys = dict.fromkeys(("LOGIN", "ASTRAY", "MUTUAL"), identities.broker) | {
        "EXPIRED": identities.expired,
        "MISNAMED": identities.misnamed,
    }
    for name, file in keys.items():
        settings |= _of(name, {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(file)})
    trust = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(identities.authority)}
    settings |= _of("MUTUAL", trust | {"ssl.client.auth": "required", "ssl.principal.mapping.rules": NAME_OF})
    passwords = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
    modules: dict[str, dict[str, Any]] = {
        "PLAIN": {"module": "plain.PlainLoginModule", "options": passwords},
        LASTING: {"module": "scram.ScramLoginModule", "options": ""},
        "SCRAM-SHA-512": {"module": "scram.ScramLoginModule", "options": ""},
        "OAUTHBEARER": {"module": "oauthbearer.OAuthBearerLoginModule", "options": ""},
    }
    for name, mechanisms in (("LOGIN", list(modules)), ("ASTRAY", ["SCRAM-SHA-512"]), ("CLEAR", ["PLAIN"])):
        settings |= _of(name, {"sasl.enabled.mechanisms": ",".join(mechanisms)})
        for mechanism in mechanisms:
            module = modules[mechanism]
            jaas = f"{PACKAGE}.{module['module']} required {module['options']};"
            holds_ms = LONG_SESSION_MS if mechanism == LASTING else session_ms
            own = {"sasl.jaas.config": jaas, "connections.max.reauth.ms": str(holds_ms)}
            settings |= _of(name, {f"{mechanism.lower()}.{key}": value for key, value in own.items()})
    handler = f"{PACKAGE}.oauthbearer.OAuthBearerValidatorCallbackHandler"
    return settings | _of("LOGIN", {"oauthbearer.sasl.server.callback.handler.class": handler})


def _of(listener: str, settings: Mapping[str, str]) -> dict[str, str]:
    return {f"listener.name.{listener.lower()}.{key}": value for key, value in settings.items()}
