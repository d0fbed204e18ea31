"""A small OAuth 2 authority: a token endpoint for client credentials, and the keys that a broker checks tokens with."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from joserfc import jwk, jwt

CLIENT, SECRET = "anna", "a client's secret"


class TokenEndpoint:
    """What it gives, and what it was asked."""

    def __init__(self) -> None:
        self.life_s = 600
        self.secret = SECRET
        self.audience = "kafka"
        self.scopes: list[str] = []
        """Of each token given."""
        self._key = jwk.RSAKey.generate_key(2048, {"kid": "1", "alg": "RS256", "use": "sig"})
        self.url = ""

    def keys(self) -> bytes:
        return json.dumps({"keys": [self._key.as_dict(private=False)]}).encode()

    def answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, object]]:
        """RFC 6749, sections 4.4 and 5."""
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode():
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        self.scopes += form.get("scope", [""])
        now_s = int(time.time())
        issued = {"iss": "tests", "iat": now_s, "exp": now_s + self.life_s}
        claims = issued | {"sub": CLIENT, "aud": self.audience, "scope": "kafka"}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self._key)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.life_s}


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """One that runs, on loopback, in a thread of its own."""
    endpoint = TokenEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, endpoint.keys())

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, answer = endpoint.answer(self.headers.get("Authorization", ""), form)
            self._send(status, json.dumps(answer).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, name="token-endpoint")
    serving.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
