"""Kills a process at every statement of a store in turn, and checks what the next one shows.

`python -m tests.faults.dying_store FOLDER [--wrong]`: prints a line for each wrong number, then how many deaths there
were; exits with 1 if any number was wrong. `--wrong` commits the counts apart from the rows that they count.
"""

import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from feedback_listener import join, store
from feedback_listener.join import Changes
from feedback_listener.tables import Tables
from tests import truth
from tests.replica import Replica
from tests.truth import DAY_MS, HOUR_MS, Labelled, Record, Scored

BEGIN_MS = 1_800_000_012_345
WINDOW_MS = DAY_MS
CLASSES = ("NEGATIVE", "POSITIVE")


class CountsApart(Tables):
    """Wrong on purpose: the counts follow the rows and positions in a transaction of their own."""

    _later: Changes | None = None

    def add(self, changes: Changes) -> None:
        self._later = changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
        if self._later:
            with super().transaction():
                super().add(self._later)
            self._later = None


def history() -> list[tuple[int, list[Record]]]:
    """Batches and their moments: predictions, labels before and after them, corrections, and an end of the window."""
    dice = random.Random(1)
    batches = []
    for number, hours in enumerate((0, 1, 2, 25, 40)):
        at_ms = BEGIN_MS + hours * HOUR_MS
        batch: list[Record] = []
        for place in range(6):
            offset = number * 6 + place
            label = dice.choice(CLASSES)
            scores = dict.fromkeys(CLASSES, 0.25) | {label: 0.75}
            batch.append(Scored(str(offset), offset % 2, offset, at_ms, label, scores))
            batch.append(Labelled(str(dice.randrange(40)), 0, offset, at_ms, dice.choice(CLASSES), "anna"))
        batches.append((at_ms, batch))
    return batches


def die_at(statement: int, path: Path, batches: Sequence[tuple[int, list[Record]]]) -> bool:
    """Apply the batches in a child that is killed at its n-th statement; false if it came to its end."""
    if child := os.fork():
        _pid, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    countdown = itertools.count(statement - 1, -1)

    def kill(_sql: str) -> None:
        if next(countdown) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    replica = Replica(path, BEGIN_MS, WINDOW_MS)
    replica.store._tables._db.set_trace_callback(kill)
    for at_ms, batch in batches:
        replica.apply(batch, at_ms)
    os._exit(0)


def wrong_after(path: Path, batches: Sequence[tuple[int, list[Record]]]) -> list[str]:
    """Go on from where the file stands; the series that are not as they must be."""
    end_ms = batches[-1][0]
    replica = Replica(path, end_ms, WINDOW_MS)
    for _at_ms, batch in batches:
        replica.apply(replica.missing(batch), end_ms)
    records = [record for _at_ms, batch in batches for record in batch]
    expected, shown = truth.numbers(records, end_ms, WINDOW_MS), replica.exported()
    replica.store.close()
    return [
        f"{series}: {shown.get(series)} instead of {expected.get(series)}"
        for series in expected.keys() | shown.keys()
        if shown.get(series) != pytest.approx(expected.get(series, 0), abs=0.05)
    ]


def main(folder: str, *flags: str) -> int:
    if "--wrong" in flags:
        vars(store)["Tables"] = CountsApart
    vars(join)["MAX_PER_ID"] = vars(truth)["PER_ID"] = 1
    batches = history()
    wrong, deaths = 0, 0
    for statement in itertools.count(1):
        path = Path(folder) / f"{statement}.sqlite"
        if not die_at(statement, path, batches):
            break
        deaths += 1
        for line in wrong_after(path, batches):
            print(f"killed at statement {statement}: {line}")
            wrong += 1
    print(f"{deaths} deaths")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
