"""Tokens in the place of passwords: from an OAuth 2 token endpoint, signed for AWS MSK, or tickets of Kerberos."""

import asyncio
import time
from abc import abstractmethod

from aiokafka.abc import AbstractTokenProvider

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.settings import KafkaSettings

ENDPOINT_TIMEOUT_S = 5.0
RENEWED_AFTER = 0.8
"""Of a token's life: Kafka's own client begins to renew it then (sasl.login.refresh.window.factor)."""
LIFE_S = 300.0
"""Of a token that does not tell."""
PAUSE_S = 1.0
"""After a failure."""
FINAL = frozenset(
    {
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
"""The errors of RFC 6749, section 5.2, that trying again does not mend; a server that is too busy has others."""
KDC_UNREACHABLE = 2529639068
"""KRB5_KDC_UNREACH of MIT's krb5.h, as GSSAPI's minor codes have no sign."""


class TokenRefused(StreamgaugeError):  # noqa: N818 - it is a refusal
    """Who should give us a token does not, and says so."""


def token_provider(settings: KafkaSettings) -> "TokenProvider | None":
    """What the mechanism needs, None when it needs no token. Raises ConfigurationError when a package is missing."""
    if not settings.security_protocol.startswith("SASL"):
        return None
    match settings.sasl_mechanism:
        case "OAUTHBEARER":
            _need("authlib", "oauth")
            return _ClientCredentials(settings)
        case "AWS_MSK_IAM":
            _need("aws_msk_iam_sasl_signer", "msk")
            return _SignedForMsk(settings)
        case "GSSAPI":
            _need("gssapi", "gssapi")  # aiokafka uses it; MIT's library finds, asks for and renews the tickets itself
    return None


def _need(module: str, extra: str) -> None:
    try:
        __import__(module)
    except ImportError as error:
        raise ConfigurationError(
            f"this login needs further packages; run, in the project's folder: pip install '.[{extra}]' ({error})"
        ) from None


def in_words(error: BaseException) -> BaseException:
    """An error of Kerberos as TokenRefused, or as ConnectionError when its KDC is away; any other as it is."""
    minor: int | None = getattr(error, "min_code", None)  # the package that has its class may not be here
    if minor is None:
        return error
    problem = str(error).rpartition(f"Minor ({minor}): ")[2]
    if minor == KDC_UNREACHABLE:
        return ConnectionError(f"no ticket from Kerberos: {problem}")
    return TokenRefused(
        f"no ticket from Kerberos: {problem}; see klist, KRB5_CLIENT_KTNAME and STREAMGAUGE_KAFKA_KERBEROS_SERVICE_NAME"
    )


class TokenProvider(AbstractTokenProvider):
    """Keeps a token for most of its life: all connections of a process share it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._token = ""
        self._renew_s = self._good_until_s = self._again_s = 0.0
        """Of the wall clock: when a new one is asked for, how long this one is good, when it is asked again."""
        self._failure: TokenRefused | ConnectionError | None = None
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for a while. Raises TokenRefused, or ConnectionError when nobody gives one now."""
        async with self._asking:
            now_s = time.time()
            if now_s >= self._renew_s:
                await self._renew(now_s)
        return self._token

    def forget(self) -> None:
        """A broker has refused this token, whatever its life: ask for another."""
        self._renew_s = self._good_until_s = 0.0

    async def _renew(self, now_s: float) -> None:
        """All connections of a process ask, many times a second while none is made: who gives tokens is spared that."""
        if now_s < self._again_s and self._failure:
            raise self._failure
        try:
            self._token, life_s = await self._fetch()
        except (TokenRefused, ConnectionError) as failure:
            self._failure, self._again_s = failure, now_s + PAUSE_S
            if now_s >= self._good_until_s:
                raise
        else:
            self._failure = None
            self._renew_s, self._good_until_s = now_s + RENEWED_AFTER * life_s, now_s + life_s

    @abstractmethod
    async def _fetch(self) -> tuple[str, float]:
        """A new token, and its life in seconds."""


class _ClientCredentials(TokenProvider):
    """OAuth 2.0's client credentials grant, RFC 6749, section 4.4."""

    async def _fetch(self) -> tuple[str, float]:
        import httpx2
        from authlib.integrations.base_client import OAuthError
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        settings, url = self._settings, self._settings.oauth_token_url
        secret = settings.secret("oauth_client_secret")
        try:
            async with AsyncOAuth2Client(
                settings.oauth_client_id, secret, scope=settings.oauth_scope, timeout=ENDPOINT_TIMEOUT_S
            ) as client:
                token = await client.fetch_token(url, grant_type="client_credentials")
        except OAuthError as error:
            said = f"{error.error} {error.description or ''}".strip()
            if error.error not in FINAL:
                raise ConnectionError(f"no token from {url}: {said}") from None
            raise TokenRefused(
                f"{url} gives {settings.oauth_client_id} no token: {said}; see STREAMGAUGE_KAFKA_OAUTH_CLIENT_ID, "
                "_CLIENT_SECRET and _SCOPE"
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ConnectionError(f"no token from {url}: {error}") from None
        if "access_token" not in token:
            raise TokenRefused(f"{url} gives no token; see STREAMGAUGE_KAFKA_OAUTH_TOKEN_URL")
        return str(token["access_token"]), float(token.get("expires_in") or LIFE_S)


class _SignedForMsk(TokenProvider):
    """AWS's own signer; who we are is what boto3 finds: environment, files, the role of the machine or the pod."""

    async def _fetch(self) -> tuple[str, float]:
        token, expires_ms = await asyncio.to_thread(self._sign)
        return token, expires_ms / 1000 - time.time()

    def _sign(self) -> tuple[str, int]:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        from botocore import exceptions
        from botocore.session import Session

        passing = (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.MetadataRetrievalError,
            exceptions.CredentialRetrievalError,
        )
        try:
            if Session().get_credentials() is None:  # which the signer does not expect
                raise TokenRefused("no credentials of AWS to sign a login with: see boto3's documentation")
            token, expires_ms = MSKAuthTokenProvider.generate_auth_token(self._settings.aws_region)
        except passing as error:
            raise ConnectionError(f"no credentials of AWS now: {error}") from None
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise TokenRefused(f"no credentials of AWS to sign a login with: {error}") from None
        return token, expires_ms
