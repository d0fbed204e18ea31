"""What came of a soak: numbers, and the table that shows them."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.soak_fleet import SETTINGS, Findings
from tests.faults.soak_stream import Strike

GOAL_S: float = SETTINGS["session_timeout_s"] + 5
"""From the end of the last fault until each partition is read again."""


@dataclass(kw_only=True)
class Report(Findings):
    """What came of it. Numbers of records, but for `aborted` and `fenced` (transactions that a worker saw fail)."""

    records: int
    faults: int
    seed: int
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    out_of_order: int = 0
    audit: int = 0
    """What was wrong with the audit topic."""
    aborted: int = 0
    fenced: int = 0
    hidden: int = 0
    """Output records of aborted transactions, which read_committed readers never saw."""
    recovery_max_s: float = 0.0
    """The longest time from a blow until each partition showed the result of an input sent after the blow.

    Other faults may have struck meanwhile; the time that a fault holds output back by its nature is left out.
    """
    split: int = 0
    """Openings that found outputs which differed from the committed offset: transactions that brokers had split."""
    silence_max_s: float = 0.0
    duration_s: float = 0.0
    records_per_s: float = 0.0
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)
    """By kind of fault: `faults`, `blows`, `recovery_median_s`, `recovery_max_s`."""

    @property
    def verdict_is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.out_of_order or self.audit or self.problems)

    @property
    def passed(self) -> bool:
        """Clean, not silent for too long, and it tested something."""
        return self.verdict_is_clean and self.aborted + self.fenced > 0 and self.silence_max_s <= GOAL_S


def sum_up(faults: Counter[str], strikes: Sequence[Strike], report: Report) -> None:
    """Add the figures by kind: how many faults, how many blows, and how long the stream took to be over each."""
    for kind, count in sorted(faults.items()):
        blows = [strike for strike in strikes if strike.kind == kind]
        known_s = sorted(strike.recovery_s for strike in blows if strike.recovery_s is not None)
        if len(known_s) < len(blows):
            report.problems.append(f"{kind}: no recovery was seen from {len(blows) - len(known_s)} blows")
        report.kinds[kind] = {
            "faults": count,
            "blows": len(blows),
            "recovery_median_s": round(statistics.median(known_s), 2) if known_s else 0.0,
            "recovery_max_s": round(known_s[-1], 2) if known_s else 0.0,
        }
    report.recovery_max_s = max((each["recovery_max_s"] for each in report.kinds.values()), default=0.0)


LISTS = ("kinds", "problems", "exits", "silences_s")


def table(report: Report) -> str:
    """For people."""
    lines = [f"{'fault':14} {'count':>6} {'blows':>6} {'median s':>9} {'longest s':>10}"]
    for kind, each in report.kinds.items():
        cells = [each["faults"], each["blows"], each["recovery_median_s"], each["recovery_max_s"]]
        lines.append("{:14} {:6} {:6} {:9.2f} {:10.2f}".format(kind, *cells))
    plain = {name: value for name, value in vars(report).items() if name not in LISTS}
    lines += [f"{name:14} {value}" for name, value in plain.items()]
    lines += [f"ended by itself: {line}" for line in report.exits]
    return "\n".join([*lines, *(f"problem: {line}" for line in report.problems)])
