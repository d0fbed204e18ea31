"""What Prometheus' API tells of its rules, targets and series (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

from collections import Counter
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from streamgauge.commands.doctor.http_collecting import hear
from streamgauge.commands.doctor.picture import NotSeen, Prometheus

OURS = "streamgauge-"
"""How the names of our rule groups begin; others have theirs in the same Prometheus."""

T = TypeVar("T")


class _Answer(msgspec.Struct, Generic[T]):
    status: str
    data: T | None = None
    error: str = ""


class _Rule(msgspec.Struct, rename="camel"):
    name: str
    health: str = ""
    last_error: str = ""


class _Group(msgspec.Struct):
    name: str
    rules: list[_Rule]


class _Rules(msgspec.Struct):
    groups: list[_Group]


class _Target(msgspec.Struct):
    labels: dict[str, str]
    health: str


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: list[_Target]


class _Alertmanagers(msgspec.Struct, rename="camel"):
    active_alertmanagers: list[dict[str, Any]]


class _Series(msgspec.Struct):
    metric: dict[str, str]


class _Vector(msgspec.Struct):
    result: list[_Series]


async def ask_prometheus(http: aiohttp.ClientSession, url: str) -> Prometheus:
    """Raises aiohttp's errors, TimeoutError, or NotSeen when it is not Prometheus that answers."""
    api = f"{url.rstrip('/')}/api/v1"
    rules = await _ask(http, f"{api}/rules", _Rules)
    targets = await _ask(http, f"{api}/targets", _Targets, state="active")
    alertmanagers = await _ask(http, f"{api}/alertmanagers", _Alertmanagers)
    positions = await _ask(http, f"{api}/query", _Vector, query="streamgauge_listener_position")
    models = await _ask(http, f"{api}/query", _Vector, query="streamgauge_model_info")
    groups = [group for group in rules.groups if group.name.startswith(OURS)]
    return Prometheus(
        rule_groups=frozenset(group.name for group in groups),
        failing_rules={rule.name: rule.last_error for group in groups for rule in group.rules if rule.health == "err"},
        targets_up=Counter(target.labels.get("job", "") for target in targets.active_targets if target.health == "up"),
        alertmanagers=len(alertmanagers.active_alertmanagers),
        listened=frozenset((of["topic"], int(of["partition"])) for of in _labels(positions) if "partition" in of),
        models=frozenset(of["digest"] for of in _labels(models) if "digest" in of),
        skew_s=(await hear(http, f"{api}/status/buildinfo")).skew_s,
    )


def _labels(vector: _Vector) -> list[dict[str, str]]:
    return [series.metric for series in vector.result]


async def _ask(http: aiohttp.ClientSession, url: str, kind: type[T], **parameters: str) -> T:
    """Raises as `ask_prometheus`."""
    text = (await hear(http, url, **parameters)).text
    try:
        answer = msgspec.json.decode(text, type=_Answer[kind])  # type: ignore[valid-type]
    except msgspec.DecodeError:
        raise NotSeen(f"{url} answers otherwise than Prometheus does") from None
    if answer.data is None:
        raise NotSeen(f"{url}: {answer.error or answer.status}")
    return answer.data
