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


def flat(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows and panels in the order in which they are read; those of a collapsed row stand in it."""
    return [one for panel in board["panels"] for one in (panel, *(panel.get("panels") or []))]


PANELS = [Panel(board["title"], panel) for board in BOARDS for panel in flat(board) if panel["type"] != "row"]


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


def overridden(panel: dict[str, Any], name: str, key: str) -> Any:
    """What a panel's overrides say of the series of this name, None where they do not."""
    found = None
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == "byRegexp" and re.search(override["matcher"]["options"].strip("/"), name):
            found = next((one["value"] for one in override["properties"] if one["id"] == key), found)
    return found


def named(legend: str, labels: dict[str, str]) -> str:
    """The name that a legend gives to a series."""
    return re.sub(r"\{\{(\w+)}}", lambda variable: labels.get(variable[1], ""), legend)
