"""What comes again and again is a line now and then; nothing is lost but the lines."""

import ast
import io
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streamgauge.log_folding import FIRST_S, LATER_S, LINES, MAX_KINDS, FoldingHandler, in_words
from tests.unit.test_catch_up import Clock


class Log:
    """A handler, and a clock that the test turns."""

    def __init__(self) -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        self.handler = FoldingHandler(self.stream, self.clock)

    def say(self, message: object, *args: object, name: str = "aiokafka") -> None:
        self.handler.handle(logging.LogRecord(name, logging.ERROR, "", 0, message, args, None))

    def event(self, name: str, **fields: Any) -> None:
        self.say({"event": name, **fields}, name="worker.partitions")

    def at(self, now_s: float) -> None:
        """It is later, and the timer, if there is one, fires."""
        self.clock.now_s = now_s
        self.handler.tell()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def untimed(line: str) -> dict[str, Any]:
    """A line, without the time at which it was written."""
    event: dict[str, Any] = ast.literal_eval(line)
    del event["timestamp"]
    return event


@pytest.fixture
def log() -> Iterator[Log]:
    """Nothing said yet."""
    log = Log()
    yield log
    log.handler.close()


def test_a_hundred_partitions_are_two_lines(log: Log) -> None:
    """The first at once, and all others together; later ones once a minute, as long as they come."""
    for partition in range(100):
        log.event("partition.reopening", partition=partition, error=f"error {partition}")
    assert log.lines == ["{'event': 'partition.reopening', 'partition': 0, 'error': 'error 0'}"]
    log.at(FIRST_S)
    told = {"event": "partition.reopening", "error": "error 99", "times": 99, "partitions": "1-99"}
    assert [untimed(line) for line in log.lines[1:]] == [told]
    log.event("partition.reopening", partition=7, error="again")
    log.at(FIRST_S + LATER_S - 1)
    assert len(log.lines) == 2
    log.at(FIRST_S + LATER_S)
    assert [untimed(line) for line in log.lines[2:]] == [told | {"error": "again", "times": 1, "partitions": "7"}]
    log.at(FIRST_S + 2 * LATER_S)
    log.event("partition.reopening", partition=8, error="a day later")
    assert len(log.lines) == 4, "what has not come for a minute is new"


def test_libraries_are_folded_by_what_they_say_not_of_whom(log: Log) -> None:
    """Of different things, different lines; the last message tells how often."""
    for number in range(50):
        log.say("no offset of %s-%s", "t", number)
        log.say("no node %s", number)
    log.at(FIRST_S)
    assert log.lines == [
        "no offset of t-0",
        "no node 0",
        "no offset of t-49 (49 times since this was last logged)",
        "no node 49 (49 times since this was last logged)",
    ]


def test_a_flood_is_a_line_every_ten_seconds_at_most(log: Log) -> None:
    """Of one kind, whenever one looks."""
    told_s = []
    for tenth in range(3000):
        log.clock.now_s = tenth / 10
        before = len(log.lines)
        log.event("group.unknown", partition=tenth)
        told_s += [log.clock.now_s] * (len(log.lines) - before)
    assert told_s == [0, 10, 70, 130, 190, 250]


def test_a_process_that_goes_silent_has_told_all(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer tells what is due when nothing more is logged."""
    begun = threading.Event()

    class Timer(threading.Timer):
        def start(self) -> None:
            assert (self.interval, self.daemon) == (FIRST_S, True)
            begun.set()

    monkeypatch.setattr(threading, "Timer", Timer)
    log.event("partition.opened", partition=0)
    assert not begun.is_set()
    log.event("partition.opened", partition=1)
    assert begun.is_set()


def test_the_end_of_the_process_tells_the_rest(log: Log) -> None:
    """As logging does it at exit."""
    log.say("no node %s", 1)
    log.say("no node %s", 2)
    log.handler.close()
    assert log.lines == ["no node 1", "no node 2 (1 times since this was last logged)"]


def test_what_never_repeats_is_no_flood_either(log: Log) -> None:
    """LINES within any FIRST_S; what is beyond comes in its turn, and what is far too much by its logger alone."""
    for number in range(LINES + 2):
        log.say(f"task {number}")
    assert log.lines == [f"task {number}" for number in range(LINES)]
    log.at(FIRST_S)
    assert log.lines[LINES:] == [f"task {LINES}", f"task {LINES + 1}"]
    for number in range(3 * MAX_KINDS):
        log.say(f"more {number}")
    assert len(log.handler._folds) <= MAX_KINDS + 1
    told = []
    for second in range(1000):
        before = len(log.lines)
        log.at(FIRST_S + second)
        told.append(len(log.lines) - before)
        assert sum(told[-10:]) <= LINES
    assert log.lines[-1].startswith(f"more {3 * MAX_KINDS - 1} (")


def test_what_lines_named_is_told_in_order() -> None:
    """Numbers as ranges, and names."""
    assert in_words({3, 1, 2, 7}) == "1-3,7"
    assert in_words({"b:1", "a:1"}) == "a:1,b:1"


class Slow(io.StringIO):
    """Where each line takes so long to be written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.takes_s, self.written_s = 0.5, list[float]()
        self._clock = clock

    def write(self, text: str) -> int:
        self._clock.now_s += self.takes_s
        self.written_s.append(self._clock.now_s)
        return super().write(text)


def test_a_line_counts_from_when_it_has_been_written(log: Log) -> None:
    """Not from when the first of those was due that are written together."""
    log.handler.stream = slow = Slow(log.clock)
    for kind in [*range(LINES), *range(LINES)]:
        log.event(f"kind {kind}")
    log.at(2 * FIRST_S)
    slow.takes_s = 0.0
    for tick in range(100):
        log.at(3 * FIRST_S + 0.1 * tick)
        log.event(f"another kind {tick}")
    assert len(slow.written_s) > 3 * LINES - 2
    assert all(
        later - earlier >= FIRST_S for earlier, later in zip(slow.written_s, slow.written_s[LINES:], strict=False)
    )
