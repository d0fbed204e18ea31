"""When a partition's next transaction starts. Pure: everything it goes by is an argument, the time too."""

import math
from typing import NamedTuple

from worker.settings import WorkerSettings

TRANSACTION_CPU_S = 0.0014
SETTLE_S = 0.005
"""From a commit to the next transaction. The broker turns that away until it has written the markers of the one before,
and aiokafka asks again 20 ms later."""
QUEUEING_FACTOR, MAX_QUEUEING_S = 20, 5.0
"""While texts queue up for the model, results come late anyway: fewer, larger transactions leave more time to it."""
AT_ONCE_S = -math.inf


class Terms(NamedTuple):
    """What a partition's next transaction waits for; times are on the clock of whoever asks."""

    enough: int
    """So many finished records do not wait."""
    not_before_s: float
    """When it starts with fewer than enough."""
    at_latest_s: float
    """When it starts with fewer than enough while texts queue up."""

    def start_s(self, finished: int, *, is_retired: bool, is_queueing: bool) -> float:
        """When to start if nothing changes: `AT_ONCE_S`, a time, or infinity while there is nothing to commit."""
        if not finished:
            return math.inf
        if is_retired or finished >= self.enough:
            return AT_ONCE_S
        return max(self.not_before_s, self.at_latest_s) if is_queueing else self.not_before_s


class CommitPolicy:
    """The terms of each transaction, from the settings, the tenures that share this worker, and the one before."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def first(self, tenures: int) -> Terms:
        """The terms of a tenure's first transaction: it starts as soon as there is something to commit."""
        return Terms(self._enough(tenures), AT_ONCE_S, AT_ONCE_S)

    def next(self, tenures: int, began_s: float, ended_s: float) -> Terms:
        """The terms after a transaction that began and ended then, with so many open tenures in this worker."""
        interval_s = self.interval_s(tenures)
        return Terms(
            self._enough(tenures),
            not_before_s=max(began_s + interval_s, ended_s + SETTLE_S),
            at_latest_s=began_s + min(interval_s * QUEUEING_FACTOR, MAX_QUEUEING_S),
        )

    def interval_s(self, tenures: int) -> float:
        """Between two transactions of one partition, so that all together take their share of a core at most."""
        return max(self._settings.commit_interval_s, tenures * TRANSACTION_CPU_S / self._settings.commit_cpu_share)

    def _enough(self, tenures: int) -> int:
        """All tenures together wait with half of the credit at most, one with an eighth: the model must not starve."""
        share = self._settings.max_records // max(8, 2 * tenures)
        return max(1, min(self._settings.commit_records, share))
