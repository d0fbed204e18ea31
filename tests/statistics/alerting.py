"""What Prometheus makes of a condition that is looked at each minute."""

import numpy as np
from numpy.typing import NDArray

Conditions = NDArray[np.bool_]
"""Minutes x streams."""


def held(condition: Conditions, minutes: int) -> Conditions:
    """Where an alert with `for: {minutes}m` fires: the condition holds, and did at every look since."""
    if not minutes:
        return condition
    since = np.where(condition, 0, np.arange(1, len(condition) + 1)[:, None])
    last_false = np.maximum.accumulate(since, axis=0)
    fires: Conditions = np.arange(1, len(condition) + 1)[:, None] - last_false > minutes
    return fires


def episodes(fires: Conditions, keep_firing_minutes: int = 0) -> int:
    """How often an alert begins to fire, over all streams; one that comes back within `keep_firing_for` never ended."""
    minute, stream = np.nonzero(fires)
    order = np.lexsort((minute, stream))
    minute, stream = minute[order], stream[order]
    is_new = np.ones(len(minute), bool)
    is_new[1:] = (np.diff(stream) != 0) | (np.diff(minute) > keep_firing_minutes + 1)
    return int(is_new.sum())


def window_sums(counts: NDArray[np.int64], minutes: int) -> NDArray[np.int64]:
    """Over the last `minutes` minutes, at each minute; minutes x streams."""
    total = counts.cumsum(axis=0)
    total[minutes:] -= total[:-minutes].copy()
    return total
