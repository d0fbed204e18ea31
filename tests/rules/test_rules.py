"""The Prometheus rules, by promtool (Debian's package `prometheus`), and that what they read is exported."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.replica import Replica
from tests.truth import Labelled, Record, Scored

TESTS = Path(__file__).parent
RULES = TESTS.parents[1] / "dashboards" / "rules"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", sorted(RULES.glob("*.yml")), ids=lambda path: path.stem)
def test_rules_are_valid(path: Path) -> None:
    """Prometheus loads every file of rules."""
    promtool("check", "rules", path)


@needs_promtool
@pytest.mark.parametrize("path", sorted(TESTS.glob("*.test.yml")), ids=lambda path: path.name)
def test_rules_give_what_was_worked_out_by_hand(path: Path) -> None:
    """The rules turn known series into the numbers, and the absences, that are expected of them."""
    promtool("test", "rules", path)


def test_recording_rules_read_what_the_listener_exports(tmp_path: Path) -> None:
    """Each series that a recording rule reads has its name in the listener's metrics, or is recorded itself."""
    replica = Replica(tmp_path / "listener.sqlite", 7_200_000, 7_200_000)
    scored = Scored("a", 0, 0, 60_000, "x", {"x": 1.0})
    records: list[Record] = [scored, replace(scored, is_audited=True), Labelled("a", 0, 0, 60_000, "x")]
    replica.apply(records, 7_200_000)
    replica.store.close()
    exported = {sample.name for metric in replica.registry.collect() for sample in metric.samples}
    rules = "".join((RULES / name).read_text() for name in ("recording.yml", "audit.yml"))
    recorded = set(re.findall(r"record: (\S+)", rules))
    read = set(re.findall(r"\b(?:streamgauge|ml_model)[\w:]+", rules.replace("name: streamgauge-", "")))
    assert len(recorded) > 40
    assert read <= exported | recorded
