"""What is served is what Prometheus expects: names, suffixes, types and help, by `promtool check metrics`."""

import subprocess
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dashboards.metrics_table import listener_registry, worker_registry
from tests.rules.test_rules import needs_promtool
from worker.metrics import Metrics


def both() -> CollectorRegistry:
    """As the demo serves it: a worker and a listener in one process."""
    registry = listener_registry()
    Metrics(registry)
    return registry


def linted(registry: CollectorRegistry) -> tuple[int, bytes]:
    """promtool's exit code, and all that it says; it warns with 3."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return checked.returncode, checked.stdout.strip()


@needs_promtool
@pytest.mark.parametrize("registry", [worker_registry, listener_registry, both])
def test_promtool_has_nothing_to_say(registry: Callable[[], CollectorRegistry]) -> None:
    """No warning, of no metric."""
    assert linted(registry()) == (0, b"")


@needs_promtool
def test_promtool_can_say_something() -> None:
    """The control: a counter's suffix on a gauge, and a unit that is none of the base ones."""
    registry = CollectorRegistry()
    Gauge("streamgauge_texts_total", "A gauge.", registry=registry)
    code, said = linted(registry)
    assert (code, b"streamgauge_texts_total" in said) == (3, True)
