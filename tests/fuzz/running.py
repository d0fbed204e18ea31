"""Runs the cases of a target, and notes which did not hold and how much memory they took."""

import logging
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field

from streamgauge.settings import LogSettings
from streamgauge.telemetry import set_up_logging
from tests.fuzz.targets import TARGETS, dice_of

MAX_GROWTH_BYTES = 64 * 2**20
"""Above what a batch may unpack to, far below what hostile input would like."""
WARM_CASES = 20
"""After these, all that is used has been loaded."""
MAX_TOLD = 20


@dataclass
class Outcome:
    """What came of a target's cases; `growth_bytes` is that of the most memory the process ever held."""

    target: str
    cases: int
    duration_s: float = 0.0
    growth_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def quiet() -> None:
    """What hostile input is answered with is not read here."""
    set_up_logging(LogSettings(level="error"))
    for ours in ("streamgauge", "worker", "feedback_listener", "aiokafka"):
        logging.getLogger(ours).setLevel(logging.CRITICAL)


def run(target: str, seed: int, cases: range) -> Outcome:
    """Each case in turn; one that fails is told with its number and where it failed."""
    hold, _cases = TARGETS[target]
    outcome, began_s, before = Outcome(target, len(cases)), time.monotonic(), 0
    warm = cases[min(WARM_CASES, len(cases) - 1)]
    for case in cases:
        if case == warm:
            before = peak_bytes()
        try:
            hold(dice_of(seed, target, case))
        except Exception:  # noqa: BLE001 - whatever it is, the next case is run as well
            outcome.failures.append(f"case {case}: {traceback.format_exc(limit=-3)}")
    outcome.duration_s, outcome.growth_bytes = time.monotonic() - began_s, peak_bytes() - before
    if outcome.growth_bytes > MAX_GROWTH_BYTES:
        outcome.failures.append(f"the process has grown by {outcome.growth_bytes >> 20} MB")
    return outcome


def peak_bytes() -> int:
    """The most memory that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
