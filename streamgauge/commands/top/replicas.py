"""A row a replica: workers by the group, their metric events and their own `/metrics`; listeners by theirs. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from feedback_listener.reconcile import Scraped
from streamgauge.commands.top.flow import Flow
from streamgauge.commands.top.scraped import WorkerShown
from streamgauge.groups import Member

ROW_COLUMNS = 30
"""Of a worker's spark line."""
READY, NOT_READY, MEMBER, STRANGER, GONE, UNKNOWN = (
    "ready",
    "not ready",
    "in the group",
    "not in the group",
    "gone",
    "not known",
)


class GroupShown(NamedTuple):
    """What the brokers tell of the workers' group."""

    members: Collection[Member]
    lag: Mapping[int, int | None]
    """From the committed offset to the end, by input partition; None where nothing is committed."""


class WorkerRow(NamedTuple):
    """A worker; None where something is not known of it."""

    name: str
    state: str
    partitions: Collection[int] | None
    """Of the input, that it owns."""
    records_per_s: float | None
    rates: list[float | None]
    """Over time, as columns of a spark line."""
    p99_s: float | None
    lag: int | None
    memory_bytes: float | None
    silent_s: float | None
    """For how long it has committed nothing; None when it has not, as far back as is known."""


class ListenerRow(NamedTuple):
    url: str
    partitions: Collection[int]
    """Of the results, that it reads."""
    judged: int
    """Predictions in these that have a label."""


def worker_rows(
    shown: Iterable[WorkerShown], group: GroupShown | None, flow: Flow | None, now_s: float
) -> list[WorkerRow]:
    """Of all that are heard of; who has gone stays for as long as its last events are kept, at the end."""
    by_name = {worker.name: worker for worker in shown}
    members = {member.client_id: member for member in group.members} if group else {}
    last_s = flow.last_s if flow else {}
    rows = []
    for name in sorted({*by_name, *members, *last_s}):
        worker, member = by_name.get(name), members.get(name)
        partitions = _partitions(worker, member)
        row = WorkerRow(
            name=name,
            state=_state(worker, member, group),
            partitions=partitions,
            records_per_s=flow.records_per_s(now_s, name) if flow else None,
            rates=[sums.records if sums else None for sums in flow.columns(now_s, ROW_COLUMNS, name)] if flow else [],
            p99_s=flow.window(now_s, name).latency_s(0.99) if flow else None,
            lag=_lag(partitions, worker, group),
            memory_bytes=worker.memory_bytes if worker else None,
            silent_s=max(0, now_s - last_s[name]) if name in last_s else None,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: row.state in (GONE, UNKNOWN))


def _partitions(shown: WorkerShown | None, member: Member | None) -> list[int] | None:
    """By the group; while that rebalances, those of which the worker itself speaks."""
    if member and member.partitions is not None:
        return sorted(tp.partition for tp in member.partitions)
    return sorted(shown.lag) if shown else None


def _lag(partitions: Sequence[int] | None, shown: WorkerShown | None, group: GroupShown | None) -> int | None:
    """None when it is not known of one of them."""
    if partitions is None:
        return None
    lag: dict[int, int | None] = {**(group.lag if group else {}), **(shown.lag if shown else {})}
    known = [records for partition in partitions if (records := lag.get(partition)) is not None]
    return sum(known) if len(known) == len(partitions) else None


def _state(shown: WorkerShown | None, member: Member | None, group: GroupShown | None) -> str:
    """Before it is ready, a worker need not be in the group yet."""
    if shown and not shown.is_ready:
        return NOT_READY
    if group and not member:
        return STRANGER if shown else GONE
    if shown:
        return READY
    return MEMBER if member else UNKNOWN


def listener_rows(shown: Mapping[str, Scraped], results: str) -> list[ListenerRow]:
    """By URL, those that answer and are ready."""
    return [
        ListenerRow(
            url,
            sorted(tp.partition for tp in scraped.positions if tp.topic == results),
            round(sum(n for (name, labels), n in scraped.numbers.items() if _counts_judged(name, dict(labels)))),
        )
        for url, scraped in shown.items()
    ]


def _counts_judged(name: str, labels: Mapping[str, str]) -> bool:
    return name == "streamgauge_judged_predictions" and labels["window"] == "all"
