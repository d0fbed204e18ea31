"""When to send: an even rate that does not drift, and that forgives what a long stall missed."""

import math
from dataclasses import dataclass

from streamgauge.errors import ConfigurationError

MAX_BURST_S = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate_per_s` texts a second, None for as fast as it goes. Raises ConfigurationError for any other rate.

    Text n (from 0) is due n / rate seconds after the start, whatever the texts before it took. What is late
    is sent at once, but no more than MAX_BURST_S worth of it: what a longer stall missed is forgiven, by
    moving the start.
    """

    rate_per_s: float | None

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and not (self.rate_per_s > 0 and math.isfinite(self.rate_per_s)):
            raise ConfigurationError(f"a rate must be more than 0 texts a second, not {self.rate_per_s:g}")

    def due_in_s(self, sent: int, elapsed_s: float) -> float:
        """Seconds until the next text after `sent` ones is due; 0 when it is late."""
        return max(0.0, -self._late_s(sent, elapsed_s))

    def forgiven_s(self, sent: int, elapsed_s: float) -> float:
        """Seconds by which the start must move so that no more than MAX_BURST_S worth of texts is late."""
        return max(0.0, self._late_s(sent, elapsed_s) - MAX_BURST_S)

    def _late_s(self, sent: int, elapsed_s: float) -> float:
        return elapsed_s - sent / self.rate_per_s if self.rate_per_s else 0.0
