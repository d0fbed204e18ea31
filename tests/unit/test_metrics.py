"""What the worker counts in bulk is what it would have counted one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from worker.metrics import LATENCY_EDGES_S, observe_all


@given(st.lists(st.one_of(st.floats(0, 1000), st.sampled_from(LATENCY_EDGES_S))))
def test_observing_all_is_observing_each(values: list[float]) -> None:
    """Every bucket and the count are the same, values on an edge included; the sum but for rounding."""
    registry = CollectorRegistry()
    each, all_ = (Histogram(name, "", buckets=LATENCY_EDGES_S, registry=registry) for name in ("each", "all"))
    for value in values:
        each.observe(value)
    observe_all(all_, values)

    def samples(name: str) -> dict[object, float]:
        return {
            (sample.name.removeprefix(name), *sample.labels.values()): sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name.startswith(name) and not sample.name.endswith("_created")
        }

    assert samples("all") == pytest.approx(samples("each"))
