"""What is logged again and again becomes a line now and then, so that an outage does not flood the log.

Lines of one kind are folded, whatever partition or broker they are of: the first is written at once. What comes within
the next FIRST_S is told then, in one line: the last of them, with `times` and with every partition and broker that they
named. While it goes on, there is one line every LATER_S. And within any FIRST_S there are LINES at most: what is beyond
waits for its turn, at the latest until the end. A line that is written later has the time of when it is written.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from streamgauge.lifecycle import CLOCK

FIRST_S = 10.0
LATER_S = 60.0
LINES = 10
MAX_KINDS = 200
"""Further ones are folded by their logger alone."""
GATHERED = {"partition": "partitions", "broker": "brokers"}
"""Fields that tell lines of one kind apart, and the field that names all of them."""
MAX_GATHERED = 10_000

Kind = tuple[str, str]
"""Logger, and event or message without what was put into it."""


@dataclass
class Fold:
    """What has come of one kind since a line was written; `is_new`: none was written yet."""

    until_s: float
    is_new: bool = False
    times: int = 0
    last: logging.LogRecord | None = None
    gathered: dict[str, set[Any]] = field(default_factory=dict)

    def add(self, record: logging.LogRecord) -> None:
        self.times += 1
        self.last = record
        for name, value in _fields(record).items():
            if name in GATHERED and len(known := self.gathered.setdefault(name, set())) < MAX_GATHERED:
                known.add(value)

    def line(self, record: logging.LogRecord) -> logging.LogRecord:
        """The last of them, which tells of all."""
        if isinstance(record.msg, dict):
            record.msg = record.msg | {"timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        if self.is_new and self.times == 1:
            return record
        if isinstance(record.msg, dict):
            others = {name: value for name, value in record.msg.items() if name not in self.gathered}
            record.msg = others | {"times": self.times}
            record.msg |= {GATHERED[name]: in_words(values) for name, values in self.gathered.items()}
        else:
            record.msg, record.args = f"{record.getMessage()} ({self.times} times since this was last logged)", ()
        return record


class FoldingHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream what is new, and folds what is not."""

    def __init__(self, stream: TextIO, monotonic_s: Callable[[], float] = CLOCK.monotonic_s) -> None:
        super().__init__(stream)
        self._monotonic_s = monotonic_s
        self._folds: dict[Kind, Fold] = {}
        self._written_s: deque[float] = deque(maxlen=LINES)
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        now_s = self._monotonic_s()
        self._tell(now_s)
        kind = _kind(record)
        if kind not in self._folds and len(self._folds) >= MAX_KINDS:
            kind = record.name, ""
        if kind not in self._folds:
            is_new = now_s < self._room_s()
            self._folds[kind] = Fold(now_s if is_new else now_s + FIRST_S, is_new)
            if not is_new:
                self._write(record)
                return
        self._folds[kind].add(record)
        self._wait(now_s)

    def _room_s(self) -> float:
        """When another line may be written."""
        return self._written_s[0] + FIRST_S if len(self._written_s) == LINES else 0.0

    def _write(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._written_s.append(self._monotonic_s())  # a traceback takes its time

    def tell(self) -> None:
        """Write what is due; a process that has gone silent must not keep it to itself."""
        self.acquire()
        try:
            self._timer = None
            now_s = self._monotonic_s()
            self._tell(now_s)
            self._wait(now_s)
        finally:
            self.release()

    def close(self) -> None:
        """Write what is folded, and end."""
        self.acquire()
        try:
            if self._timer:
                self._timer.cancel()
            self._tell_all()
        finally:
            self.release()
        super().close()

    def _tell(self, now_s: float) -> None:
        due = [(fold.until_s, kind, fold) for kind, fold in self._folds.items() if fold.until_s <= now_s]
        for _until_s, kind, fold in sorted(due, key=lambda each: each[0]):
            if not fold.last:
                del self._folds[kind]
            elif self._room_s() <= now_s:
                self._folds[kind] = Fold(now_s + (FIRST_S if fold.is_new else LATER_S))
                self._write(fold.line(fold.last))

    def _tell_all(self) -> None:
        for fold in self._folds.values():
            if fold.last:
                super().emit(fold.line(fold.last))
        self._folds.clear()

    def _wait(self, now_s: float) -> None:
        due_s = min((fold.until_s for fold in self._folds.values() if fold.last), default=None)
        if self._timer is None and due_s is not None:
            self._timer = threading.Timer(max(0.0, due_s - now_s, self._room_s() - now_s), self.tell)
            self._timer.daemon = True
            self._timer.start()


def _kind(record: logging.LogRecord) -> Kind:
    return record.name, str(record.msg["event"] if isinstance(record.msg, dict) else record.msg)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return record.msg if isinstance(record.msg, dict) else {}


def in_words(values: Iterable[Any]) -> str:
    """What there is, in order; numbers as ranges: `0-3,7`."""
    numbers = sorted(value for value in values if isinstance(value, int))
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return ",".join([*texts, *sorted(str(value) for value in values if not isinstance(value, int))])
