"""How far a listener has come: what its probes answer, and what it logs until it has read everything."""

import time
from collections.abc import Callable, Mapping

import structlog

from feedback_listener.totals import Positions, Snapshot
from streamgauge.lifecycle import Deadline

log = structlog.get_logger(__name__)

STALLED_S = 60.0
UNWELL_S = 30.0
REPORT_EVERY_S = 5.0


class CatchUp:
    """Of one listener, from its start to where the topics ended then, and of its read loop ever after."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self.begin()

    def begin(self) -> None:
        """Everything is read from the store's positions, or from the beginning: now, or again."""
        self._began_s = self._monotonic_s()
        self._next_report = Deadline(REPORT_EVERY_S, self._monotonic_s)
        self._to_go: Positions | None = None
        """Where each partition ended at the start, of those not read so far; None before that is known."""
        self._turned_s: float | None = None
        """When the store last took a batch, be it an empty one; None before it does."""

    def aim(self, ends: Positions) -> None:
        """What must be read is everything up to here."""
        self._to_go = ends

    def turn(self) -> None:
        """The read loop turns: the store has taken a batch."""
        self._turned_s = self._monotonic_s()

    def come(self, positions: Positions, snapshot: Callable[[], Snapshot]) -> None:
        """All before these positions has been applied."""
        if not self._to_go:
            return
        self._to_go = missing(self._to_go, positions)
        if not self._to_go:
            seconds = round(self._monotonic_s() - self._began_s, 3)
            log.info("listener.caught_up", seconds=seconds, **snapshot()._asdict())
        elif not self._next_report.left_s:
            records_left = sum(end - positions.get(key, 0) for key, end in self._to_go.items())
            log.info("listener.catching_up", records_left=records_left)
            self._next_report = Deadline(REPORT_EVERY_S, self._monotonic_s)

    @property
    def caught_up(self) -> bool:
        """Whether everything that was in the topics at the start has been applied."""
        return self._to_go == {}

    def live(self) -> str | None:
        """None while the read loop turns, with or without a broker, and before there is one."""
        return self._stalled(STALLED_S)

    def _stalled(self, longer_than_s: float) -> str | None:
        stalled_s = self._monotonic_s() - self._turned_s if self._turned_s is not None else 0
        return f"the store has taken nothing for {stalled_s:.0f} s" if stalled_s > longer_than_s else None

    def ready(self, silent_s: Mapping[str, float]) -> str | None:
        """None when everything that was in the topics at the start has been applied, and brokers answer ever since.

        `silent_s`: the partitions of which they do not, and for how long.
        """
        to_go = self._to_go  # asked in another thread, while it changes
        if to_go is None:
            return "starting: how much there is to read is not known yet"
        if stalled := self._stalled(UNWELL_S):
            return stalled
        if to_go:
            return f"catching up: {len(to_go)} partitions are not read to their end yet"
        if silent_s:
            name, longest_s = max(silent_s.items(), key=lambda item: item[1])
            others = f" and {len(silent_s) - 1} other partitions" if len(silent_s) > 1 else ""
            return f"no broker has answered for {name}{others} for {longest_s:.0f} s: what is newer is not known"
        return None


def missing(ends: Positions, positions: Positions) -> Positions:
    """The partitions that have not been applied up to these ends."""
    return {key: end for key, end in ends.items() if positions.get(key, 0) < end}
