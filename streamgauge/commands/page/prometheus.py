"""The charts of the page from a Prometheus that has the project's rules: they go back further than this process."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from streamgauge.commands.page.history import WINDOWS, Accuracy, Point, Rate
from streamgauge.errors import StreamgaugeError

TIMEOUT_S = 5.0
POINTS = 240
QUERIES = {
    "predictions": 'streamgauge:predictions:sum{window="%s"}',
    "every": 'streamgauge:accuracy:ratio{window="%s"}',
    "every_low": 'streamgauge:accuracy_wilson_lower:ratio{window="%s"}',
    "every_high": 'streamgauge:accuracy_wilson_upper:ratio{window="%s"}',
    "every_n": 'streamgauge:accuracy_samples:sum{window="%s"}',
    "audit": 'streamgauge:audit_accuracy:ratio{window="%s"}',
    "audit_low": 'streamgauge:audit_accuracy_wilson_lower:ratio{window="%s"}',
    "audit_high": 'streamgauge:audit_accuracy_wilson_upper:ratio{window="%s"}',
    "audit_n": 'streamgauge:audit_samples:max{window="%s"}',
    "texts_per_s": "sum(streamgauge:texts:rate1m)",
    "p50_s": "streamgauge:end_to_end_latency_seconds:p50_rate5m",
    "p99_s": "streamgauge:end_to_end_latency_seconds:p99_rate5m",
    "lag": "sum(streamgauge:lag_records:sum)",
}
"""By what they are; each takes the window once, or not at all."""
LASTING = {
    "audit": "streamgauge:audit_sequence_accuracy:ratio",
    "audit_low": "streamgauge:audit_accuracy_sequence_lower:ratio",
    "audit_high": "streamgauge:audit_accuracy_sequence_upper:ratio",
    "audit_n": "streamgauge:audit_sequence_samples:max",
}
"""Before them for all that is retained, once a minute has matured: the interval that may be looked at for ever."""


def queries(window: str) -> dict[str, str]:
    """By what they are."""
    every = {name: query.replace("%s", window) for name, query in QUERIES.items()}
    if window == WINDOWS[-1]:
        matured = "on (model) (streamgauge:audit_sequence_samples:max > 0)"
        every |= {name: f"({query} and {matured}) or on (model) {every[name]}" for name, query in LASTING.items()}
    return every


Answer = Sequence[Any]
"""The series that Prometheus answered with, each with `metric`, its labels, and `values`, pairs of time and text."""


async def history(url: str, window: str, span_s: float, now_s: float) -> list[Point]:
    """POINTS of the last `span_s` seconds. Raises StreamgaugeError when Prometheus does not answer as it should."""
    asked = {"start": now_s - span_s, "end": now_s, "step": span_s / POINTS}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as http:
            found = {}
            for name, query in queries(window).items():
                async with http.get(f"{url.rstrip('/')}/api/v1/query_range", params=asked | {"query": query}) as answer:
                    found[name] = (await answer.json())["data"]["result"]
        return points(found)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise StreamgaugeError(f"Prometheus at {url} gives no numbers: {error or 'timed out'}") from None


def points(found: Mapping[str, Answer]) -> list[Point]:
    """One for each time at which there is anything, of the model that had most predictions last.

    Raises KeyError, TypeError or ValueError for what is no answer.
    """
    last = {one["metric"]["model"]: float(one["values"][-1][1]) for one in found.get("predictions", ())}
    model = max(last, key=lambda name: (last[name], name), default="")
    by_time: dict[float, dict[str, float]] = defaultdict(dict)
    for name, answer in found.items():
        for one in answer:
            if one["metric"].get("model", model) == model:
                for at_s, value in one["values"]:
                    if math.isfinite(float(value)):
                        by_time[float(at_s)][name] = float(value)
    return [_point(at_s, model, by_time[at_s]) for at_s in sorted(by_time)]


def _point(at_s: float, model: str, values: Mapping[str, float]) -> Point:
    accuracy = Accuracy(model, _rate(values, "audit"), _rate(values, "every"))
    own = {name: values.get(name) for name in ("texts_per_s", "p50_s", "p99_s", "lag")}
    return Point(at_s, accuracy if accuracy.audit or accuracy.every else None, **own)


def _rate(values: Mapping[str, float], of: str) -> Rate | None:
    if of not in values:
        return None
    value = values[of]
    low, high = (values.get(f"{of}_{end}", value) for end in ("low", "high"))
    return Rate(value, low, high, round(values.get(f"{of}_n", 0)))
