"""What decides is pure: it loads neither the model's runtime nor Kafka's client."""

import subprocess
import sys

import pytest

MODEL = ("onnxruntime", "tokenizers", "numpy")
PURE = ["outcomes", "output", "intake", "backlog", "sequencer", "brake", "commit_policy", "credit", "load", "metrics"]
FORBIDDEN = {**dict.fromkeys(PURE, (*MODEL, "aiokafka")), "replay": MODEL, "skip": MODEL, "tenure": MODEL}


@pytest.mark.parametrize("module", FORBIDDEN)
def test_a_module_loads_no_runtime(module: str) -> None:
    """In a process of its own, importing it brings none of these in."""
    program = f"import sys, worker.{module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {*FORBIDDEN[module]} & {*loaded}


def test_help_loads_neither_kafka_nor_a_model() -> None:
    """So it is there at once: every command imports its service when it runs."""
    program = "import sys, streamgauge.commands.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {*MODEL, "aiokafka", "aiohttp", "prometheus_client", "structlog"} & {*loaded}
