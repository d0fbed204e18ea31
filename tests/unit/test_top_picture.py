"""What a picture is made of: replicas from all that is told of them, lag, accuracy, and what is not known."""

from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition
from prometheus_client import generate_latest

from feedback_listener.reconcile import Scraped, read_metrics
from streamgauge.commands.top.accuracy import accuracies
from streamgauge.commands.top.flow import Committed, Flow
from streamgauge.commands.top.picture import Known, Lag, numbers
from streamgauge.commands.top.replicas import GONE, MEMBER, NOT_READY, READY, STRANGER, UNKNOWN, GroupShown
from streamgauge.commands.top.scraped import WorkerShown
from streamgauge.groups import Member
from tests.replica import Replica
from tests.truth import DAY_MS, HOUR_MS, Labelled, Record, Scored

NOW_S = 10_000.0
NOW_MS = 1_700_000_000_000


def shown(name: str, lag: dict[int, int], *, is_ready: bool = True) -> WorkerShown:
    return WorkerShown(name, is_ready, 4, lag, 0.5 if lag else None, 2e8, 0, 0, {})


def member(name: str, *partitions: int) -> Member:
    return Member(name, frozenset(TopicPartition("x.input", number) for number in partitions))


def known(group: GroupShown | None, **workers: WorkerShown) -> Known:
    found = Known("x.results", group=group)
    found.workers = workers
    return found


def test_each_worker_is_one_row() -> None:
    """However many ways it is heard of: the group, its URL, its events."""
    group = GroupShown([member("a", 0, 1), member("b", 2, 3)], {0: 1, 1: 2, 2: 4, 3: 8})
    found = known(group, a=shown("a", {0: 10, 1: 20}), d=shown("d", {}), e=shown("e", {}, is_ready=False))
    found.events = Flow()
    for name in ("a", "b", "c"):
        found.events.add(name, NOW_S - 5, Committed(20, 0, {0.1: 20}, 0.1))
    rows = {row.name: row for row in found.picture(NOW_S, {}).workers}
    states = {"a": READY, "b": MEMBER, "d": STRANGER, "e": NOT_READY, "c": GONE}
    assert {name: row.state for name, row in rows.items()} == states
    assert [*rows] == [*states]
    assert [row.lag for row in rows.values()] == [30, 12, 0, 0, None]
    assert [row.partitions for row in rows.values()] == [[0, 1], [2, 3], [], [], None]
    assert [row.records_per_s for row in rows.values()] == [2, 2, 0, 0, 2]
    assert (rows["c"].silent_s, rows["e"].silent_s) == (5, None)


def test_while_the_group_rebalances_nobody_has_nothing() -> None:
    """Whose partitions are not told, has a lag that is not known."""
    group = GroupShown([Member("a", None), Member("b", None)], {0: 1, 1: 2})
    rows = known(group, a=shown("a", {0: 10})).picture(NOW_S, {}).workers
    assert [(row.state, row.partitions, row.lag) for row in rows] == [(READY, [0], 10), (MEMBER, None, None)]


def test_without_a_group_nobody_is_said_to_be_gone() -> None:
    """Who is there is known only of those that answer."""
    found = known(None, a=shown("a", {0: 1}))
    found.events = Flow()
    found.events.add("b", NOW_S - 5, Committed(1, 0, {0.1: 1}, 0.1))
    assert [(row.name, row.state) for row in found.picture(NOW_S, {}).workers] == [("a", READY), ("b", UNKNOWN)]


@pytest.mark.parametrize(
    ("group", "workers", "lag"),
    [
        (None, {}, Lag(None, [], None)),
        (None, {"a": shown("a", {0: 1, 1: 2})}, Lag(3, [2, 3], 0.5)),
        (GroupShown([member("a", 0)], {0: 5, 1: 6, 2: None, 3: 0}), {}, Lag(11, [2], None)),
        (GroupShown([member("a", 0)], {0: 5, 1: 6, 2: 7, 3: 0}), {"a": shown("a", {0: 1})}, Lag(14, [], 0.5)),
        (GroupShown([], {0: 5, 1: 6, 2: 7, 3: 0}), {"z": shown("z", {0: 100})}, Lag(18, [], None)),
        (None, {"a": shown("a", {0: 9, 1: 0, 2: 0, 3: 0}), "b": shown("b", {0: 1})}, Lag(9, [], 0.5)),
    ],
)
def test_lag_is_of_workers_else_of_the_group(
    group: GroupShown | None, workers: dict[str, WorkerShown], lag: Lag
) -> None:
    """Of the group's own workers; the partitions of which nobody tells are named, and not counted as 0."""
    assert known(group, **workers).lag() == lag


def test_history_has_no_lag_that_is_of_a_part() -> None:
    """A line that falls because a worker does not answer any more would be believed."""
    found = known(None, a=shown("a", dict.fromkeys(range(4), 5)))
    found.sample(NOW_S - 2)
    found.workers = {"a": shown("a", {0: 5})}
    found.sample(NOW_S - 4)
    assert found.picture(NOW_S, {}).lags[-2:] == [None, 20]


def test_events_are_preferred_and_their_loss_is_told() -> None:
    """What the workers at their URLs count is of these alone, and that is said."""
    found = known(None, a=shown("a", {}))
    found.events, found.between_looks = Flow(), Flow(NOW_S - 100)
    found.events.add("b", NOW_S - 1, Committed(50, 0, {}, 0))
    found.between_looks.add("a", NOW_S - 1, Committed(10, 0, {}, 0))
    assert found.picture(NOW_S, {}).records_per_s == 5
    for part in ("events", "group"):
        found.is_lost(part, "no broker answers")
    picture = found.picture(NOW_S, {})
    assert picture.records_per_s == 1
    assert picture.problems == [
        "metric events, the workers' group: no broker answers",
        "throughput and latency are of the workers that answer at their URLs alone",
    ]
    found.between_looks = None
    assert found.picture(NOW_S, {}).records_per_s is None
    found.is_told("events")
    assert found.picture(NOW_S, {}).problems == ["the workers' group: no broker answers"]


def scraped(replica: Replica, url: str) -> Scraped:
    return read_metrics(url, generate_latest(replica.registry).decode())


def test_accuracy_is_that_of_all_listeners(tmp_path: Path) -> None:
    """Two copies of one shard and the other shard: as one listener that reads everything."""
    records: list[Record] = [
        *(Scored(f"id-{n}", n % 2, n // 2, NOW_MS, "x", {"x": 0.9, "y": 0.1}) for n in range(40)),
        *(Labelled(f"id-{n}", 0, n, NOW_MS, "x" if n % 4 else "y") for n in range(30)),
        *(Scored(f"id-{n}", 0, n, NOW_MS, "x", {"x": 0.9, "y": 0.1}, is_audited=True) for n in range(20)),
    ]
    replicas = [Replica(tmp_path / f"{number}.sqlite", NOW_MS, DAY_MS) for number in range(4)]
    for replica, partitions in zip(replicas, ([0, 1], [0], [0], [1]), strict=True):
        replica.apply(
            [r for r in records if not isinstance(r, Scored) or r.is_audited or r.partition in partitions], NOW_MS
        )
    alone, *shards = (scraped(replica, f"http://{number}") for number, replica in enumerate(replicas))
    [found] = accuracies(shards)
    assert [found] == accuracies([alone])
    assert (found.model, found.labels, found.recent, found.audit) == ("m@1", (22, 30), (22, 30), (15, 20))
    assert (found.matured, found.chosen, found.sequence) == ((0, 0), 0, None)
    replicas[0].apply([], NOW_MS + 2 * HOUR_MS)
    [later] = accuracies([scraped(replicas[0], "http://0")])
    assert (later.audit, later.matured, later.chosen, later.recent) == ((15, 20), (15, 20), 20, (0, 0))
    assert later.sequence
    assert 0 < later.sequence.low < 0.75 < later.sequence.high < 1
    part = known(None, a=shown("a", {}))
    part.listeners = {"http://1": shards[0]}
    part.results, part.workers = "x.results", {"a": shown("a", {})._replace(partitions=2)}
    assert part.picture(NOW_S, {}).problems == ["accuracy is of a part: no listener that answers reads x.results 1"]
    assert [(row.partitions, row.judged) for row in part.picture(NOW_S, {}).listeners] == [([0], 15)]


def test_partitions_are_written_short() -> None:
    assert numbers([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert numbers([]) == ""
