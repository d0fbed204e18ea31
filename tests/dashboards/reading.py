"""The committed dashboards as tests read them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dashboards.build import FOLDER

BOARDS: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
VARIABLES = {"$__rate_interval": "30s", "$window": "all", "$model": ".*", "$replica": ".*", "$partition": ".*"}
"""What Grafana would put in: all of everything."""


@dataclass(frozen=True)
class Panel:
    """A panel and the title of its dashboard."""

    board: str
    json: dict[str, Any]

    @property
    def is_text(self) -> bool:
        return bool(self.json["type"] == "text")

    def __str__(self) -> str:
        return f"{self.board}: {self.json['title']}"


PANELS = [Panel(board["title"], panel) for board in BOARDS for panel in board["panels"] if panel["type"] != "row"]


def expressions(panel: Panel) -> list[str]:
    """The panel's queries, as they stand there."""
    return [target["expr"] for target in panel.json.get("targets", [])]


def substituted(expr: str) -> str:
    """A query as Grafana would send it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def names_in(exprs: Iterable[str]) -> set[str]:
    """The metrics that expressions read: names that neither are called nor stand in braces, brackets or after `by`."""
    found: set[str] = set()
    for expr in exprs:
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
        bare = re.sub(r"\{[^}]*}|\[[^]]*]|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
        found |= set(re.findall(r"\b(?:streamgauge[:_]|ml_model_|process_|up\b|ALERTS\b)[\w:]*", bare))
    return found
