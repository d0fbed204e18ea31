"""What the demo counts of its own run."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Everything the demo has seen, in the topics and not in the services' memories."""

    published: int = 0
    results: int = 0
    dead_letters: int = 0
    labels: int = 0
    unknown_class: int = 0
    """Labels that fit no class of the model."""
    invented_wrong: int = 0
    """Labels that are not the text's own; each is corrected later."""
    judged: int = 0
    correct: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """From a text's timestamp to its result in a read_committed reader's hands."""
    first_result_s: float | None = None
    last_result_s: float | None = None

    def add_result(self, latency_s: float, now_s: float) -> None:
        """Count a result seen at `now_s`, on the monotonic clock."""
        self.results += 1
        self.latencies_s.append(latency_s)
        self.first_result_s = self.first_result_s or now_s
        self.last_result_s = now_s

    @property
    def lag(self) -> int:
        return self.published - self.results - self.dead_letters

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.judged if self.judged else None

    @property
    def counts(self) -> dict[str, int]:
        """What the live view shows of it."""
        return {
            "published": self.published,
            "results": self.results,
            "dead letters": self.dead_letters,
            "labels sent": self.labels,
        }

    def latency_s(self, quantile: float) -> float | None:
        """The latency that `quantile` of the results did not exceed; nearest rank."""
        ordered = sorted(self.latencies_s)
        return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] if ordered else None

    def summary(self) -> dict[str, Any]:
        """The whole run as one JSON object; times in seconds."""
        took_s = (self.last_result_s or 0) - (self.first_result_s or 0)
        p50, p99 = self.latency_s(0.5), self.latency_s(0.99)
        return {
            "published": self.published,
            "results": self.results,
            "dead_letters": self.dead_letters,
            "labels": self.labels,
            "unknown_class": self.unknown_class,
            "invented_wrong": self.invented_wrong,
            "judged": self.judged,
            "accuracy": self.accuracy,
            "texts_per_s": round(self.results / took_s, 1) if took_s else None,
            "latency_p50_s": round(p50, 3) if p50 is not None else None,
            "latency_p99_s": round(p99, 3) if p99 is not None else None,
        }
