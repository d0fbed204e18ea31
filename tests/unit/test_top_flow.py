"""What is counted of commits, second by second, and what workers say of themselves."""

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dashboards.metrics_table import listener_registry
from streamgauge.commands.top.flow import COLUMN_S, KEPT_S, MAX_WORKERS, WINDOW_S, Committed, Flow, Samples
from streamgauge.commands.top.scraped import WorkerShown, committed_between, read_worker
from streamgauge.errors import StreamgaugeError
from worker.metrics import LATENCY_EDGES_S, Lag, Metrics

NOW_S = 10_000.0
ONE = Committed(1, 0, {0.1: 1}, 0.08)
URL = "http://a:8001"


def test_rates_are_of_whole_seconds() -> None:
    """Ten texts a second by two workers; what comes in this second does not count yet."""
    flow = Flow()
    for second in range(1, WINDOW_S + 1):
        for worker in ("a", "b"):
            for _ in range(5):
                flow.add(worker, NOW_S - second, ONE)
    flow.add("a", NOW_S + 0.5, Committed(1000, 1, {math.inf: 1000}, 400))
    assert flow.records_per_s(NOW_S + 0.9) == 10
    assert flow.records_per_s(NOW_S + 0.9, "a") == 5
    assert flow.records_per_s(NOW_S, "c") == 0
    assert flow.window(NOW_S + 0.9).latency_s(0.99) == pytest.approx(0.08, rel=0.02)
    assert flow.dead_letters == 1
    assert flow.last_s == {"a": NOW_S, "b": NOW_S - 1}


def test_what_was_before_the_beginning_is_not_known() -> None:
    """A rate is of the seconds that were seen, and none without a whole one; a column before them is blank."""
    flow = Flow(began_s=NOW_S)
    flow.add("a", NOW_S + 1, Committed(8, 0, {0.1: 8}, 0.1))
    assert flow.records_per_s(NOW_S + 0.9) is None
    assert flow.records_per_s(NOW_S + 4) == 2
    columns = flow.columns(NOW_S + 4, 4)
    assert [column and column.records for column in columns] == [None, None, 8, 0]


def test_what_is_old_is_forgotten() -> None:
    """The worker too, when nothing else is known of it; and anybody can write metric events under any name."""
    flow = Flow()
    for number in range(2 * MAX_WORKERS):
        flow.add(f"stranger-{number}", NOW_S, ONE)
    assert len(flow.last_s) == MAX_WORKERS + 1
    assert flow.window(NOW_S + 1).records == 2 * MAX_WORKERS
    flow.forget(NOW_S + KEPT_S + 1)
    flow.add("a", NOW_S + KEPT_S, ONE)
    assert flow.last_s == {"a": NOW_S + KEPT_S}
    assert len(flow.columns(NOW_S + KEPT_S, 500)) == 500


def test_samples_keep_the_last_of_a_column() -> None:
    """And none that is old."""
    samples = Samples()
    for second in range(2 * KEPT_S):
        samples.add(NOW_S + second, second)
    found = samples.columns(NOW_S + 2 * KEPT_S, KEPT_S)
    assert found[-2:] == [2 * KEPT_S - COLUMN_S - 1, 2 * KEPT_S - 1]
    assert 0 < sum(value is not None for value in found) <= KEPT_S // COLUMN_S


def page(latencies_s: list[float], *, name: str = "a", letters: int = 0) -> str:
    """What a worker serves that has committed so."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.worker.info({"worker": name})
    metrics.lag.read = lambda: [Lag(0, 7, 1.5, 9), Lag(3, None, None, None)]
    metrics.partitions.read = lambda: (4, 4)
    metrics.ready.set(1)
    for latency_s in latencies_s:
        metrics.end_to_end.observe(latency_s)
    for refusals in list(metrics.dead_letters.values())[:letters]:
        refusals.inc()
    return generate_latest(registry).decode()


def test_a_worker_says_what_it_is() -> None:
    """By its own registry: a lag that it does not know is absent."""
    shown = read_worker(URL, page([0.03, 0.04, 400], letters=2))
    assert shown == WorkerShown(
        "a",
        True,
        4,
        {0: 7},
        1.5,
        None,
        3,
        2,
        dict.fromkeys((*LATENCY_EDGES_S, math.inf), 0) | {0.05: 2, math.inf: 1},
    )


@pytest.mark.parametrize("text", ["", "<html>", generate_latest(listener_registry()).decode()])
def test_who_is_no_worker_is_said_to_be_none(text: str) -> None:
    """Whatever else is served at that port."""
    with pytest.raises((StreamgaugeError, ValueError), match=r"not a worker|Invalid|html"):
        read_worker(URL, text)


def test_two_looks_tell_what_was_committed_between_them() -> None:
    """A worker that has started anew counts from 0, and so does another one at the same URL."""
    before = read_worker(URL, page([0.03]))
    after = read_worker(URL, page([0.03, 0.08, 400], letters=1))
    committed = committed_between(before, after)
    assert committed[:2] == (2, 1)
    assert {edge: n for edge, n in committed.latencies.items() if n} == {0.1: 1, math.inf: 1}
    assert committed.max_s == LATENCY_EDGES_S[-1]
    assert committed_between(after, before).records == 1
    assert committed_between(before, read_worker(URL, page([0.2, 0.2, 0.2], name="b"))).records == 3
