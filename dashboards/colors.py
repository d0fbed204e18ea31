"""One colour for one meaning, wherever it is drawn: of Okabe and Ito's palette, which the colour-blind tell apart.

What has a name of its own (a replica, a partition, a reason) has the colour that Grafana gives to that name.
"""

import re
from collections.abc import Iterator

SKY, BLUE, PURPLE, YELLOW, GREY = "#56B4E9", "#0072B2", "#CC79A7", "#F0E442", "#767676"
GREEN, ORANGE, VERMILLION = "#009E73", "#E69F00", "#D55E00"
"""As verdicts: good, to be looked at, bad. As severities: none, warning, critical."""
NEUTRAL = "text"
"""Grafana's colour of what is neither good nor bad."""
SEVERITIES = {"critical": VERMILLION, "warning": ORANGE}

VALUES: dict[str, dict[str, str]] = {
    "label": {"POSITIVE": SKY, "NEGATIVE": PURPLE},
    "class": {"POSITIVE": SKY, "NEGATIVE": PURPLE},
    "window": {"5m": YELLOW, "1h": SKY, "24h": BLUE, "all": GREY},
    "age": {"0-5m": YELLOW, "5m-1h": SKY, "1h-24h": BLUE, "older": GREY},
    "stage": {
        "tokenize": SKY,
        "queue": YELLOW,
        "infer": BLUE,
        "wait": PURPLE,
        "publish": GREEN,
        "commit": ORANGE,
    },
    "outcome": {
        "committed": GREEN,
        "aborted": ORANGE,
        "fenced": PURPLE,
        "duplicate": GREY,
        "correction": SKY,
        "conflict": BLUE,
        "unknown_class": YELLOW,
    },
    "job": {"streamgauge-worker": SKY, "streamgauge-listener": PURPLE},
}
"""By label: the values that are known. Another model's classes have the colours of their names."""

WORDS = {
    # How right the model is, by whom.
    "audit": SKY,
    "all labels": YELLOW,
    "estimated": BLUE,
    "baseline": GREY,
    "floor": VERMILLION,
    "sequence": BLUE,
    "Wilson": GREY,
    "best": GREEN,
    "worst": VERMILLION,
    "below the floor": VERMILLION,
    "below its promise": PURPLE,
    "confidence, judged": PURPLE,
    "confidence, all": BLUE,
    "calibration error": BLUE,
    "Brier score": YELLOW,
    # Labels.
    "received": SKY,
    "answered": SKY,
    "waiting": YELLOW,
    "unanswered": VERMILLION,
    "orphans": VERMILLION,
    "unreadable": VERMILLION,
    # Quantiles and windows.
    "median": SKY,
    "90th percentile": BLUE,
    "95th percentile": BLUE,
    "99th percentile": PURPLE,
    "mean": GREY,
    "5 minutes": YELLOW,
    "hour": SKY,
    "6 hours": PURPLE,
    # What flows.
    "all": GREY,
    "arriving": SKY,
    "needed": PURPLE,
    "up": SKY,
    "partitions": GREY,
    "lost": VERMILLION,
    "truncated": YELLOW,
    "failed": VERMILLION,
    "rebalances": SKY,
    "reopened partitions": YELLOW,
    "texts": SKY,
    "tokens": BLUE,
    "padding": PURPLE,
    "with padding": PURPLE,
}
"""By what a legend says besides the model."""

NAMED = {"instance", "partition", "reason"}
OWNERS = {"model", "group"}
"""Of which there is mostly one."""
VARIABLE = re.compile(r"\{\{(\w+)}}")


def meaning(legend: str) -> str:
    """What a legend says of its series besides whose it is; both ends of an interval mean the same."""
    return re.sub(r", (upper|lower)$", "", re.sub(r"\{\{(model|group)}}", "", legend).strip())


def colors(legend: str) -> Iterator[tuple[str, str]]:
    """Patterns of the names that a legend gives, and their colours. Raises KeyError for words that have none yet."""
    variables = set(VARIABLE.findall(legend))
    if variables & NAMED or not meaning(legend):
        return
    for name in variables - OWNERS:
        for value, color in VALUES[name].items():
            yield _pattern(legend.replace(f"{{{{{name}}}}}", value)), color
    if not variables - OWNERS:
        yield _pattern(legend), WORDS[meaning(legend)]


def _pattern(legend: str) -> str:
    """What matches the whole of each name that the legend gives."""
    return f"/^{VARIABLE.sub('.+', legend)}$/"
