"""Shows what Alertmanager delivers: a line on standard output for each alert, and the latest ones at `/`.

A receiver for trying out, without the internet; it needs nothing but Python. `python alert_receiver.py [PORT]`.
"""

import json
import sys
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

PORT = 9094
LATEST = 100


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks, of Alertmanager's own kind and Slack's, by POST; shows the latest by GET."""

    latest: ClassVar[deque[str]] = deque(maxlen=LATEST)

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for line in lines(content):
            self.latest.append(line)
            print(line, flush=True)
        self._answer("ok")

    def do_GET(self) -> None:
        self._answer("\n".join(self.latest) + "\n")

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests themselves are no news."""


def lines(content: dict[str, Any]) -> list[str]:
    """What a webhook's content says, an alert a line."""
    if "attachments" in content:
        return [f"slack: {part['title']} | {part['text'].strip()}" for part in content["attachments"]]
    return [
        f"{alert['status']} {labels['severity']} {labels['alertname']}: {alert['annotations']['summary']}"
        for alert in content["alerts"]
        for labels in [alert["labels"]]
    ]


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    server = ThreadingHTTPServer(("", port), Receiver)
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
