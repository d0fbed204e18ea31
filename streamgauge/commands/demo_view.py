"""What the demo counts, and how it shows it: live on a terminal, plain lines in a pipe."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamgauge.terminal import cell

RATE_WINDOW_S = 5.0
SHOWN_TEXTS = 6
LATEST = 2000
"""Results whose latencies are shown while the demo runs; the summary covers all."""
PLAIN_EVERY_S = 2.0
LIVE_EVERY_S = 0.25


@dataclass
class Tally:
    """Everything the demo has seen, in the topics and not in the services' memories."""

    published: int = 0
    results: int = 0
    dead_letters: int = 0
    labels: int = 0
    unknown_class: int = 0
    """Labels that fit no class of the model."""
    judged: int = 0
    correct: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """From a text's timestamp to its result in a read_committed reader's hands."""
    first_result_s: float | None = None
    last_result_s: float | None = None
    recent: deque[tuple[str, str, float]] = field(default_factory=lambda: deque(maxlen=SHOWN_TEXTS))
    """Text, label, confidence."""
    _arrivals_s: deque[float] = field(default_factory=deque)

    def add_result(self, text: str, label: str, score: float, latency_s: float, now_s: float) -> None:
        """Count a result seen at `now_s`, on the monotonic clock."""
        self.results += 1
        self.latencies_s.append(latency_s)
        self.recent.append((text, label, score))
        self.first_result_s = self.first_result_s or now_s
        self.last_result_s = now_s
        self._arrivals_s.append(now_s)

    @property
    def lag(self) -> int:
        return self.published - self.results - self.dead_letters

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.judged if self.judged else None

    def texts_per_s(self, now_s: float) -> float:
        """Results a second, lately."""
        while self._arrivals_s and self._arrivals_s[0] < now_s - RATE_WINDOW_S:
            self._arrivals_s.popleft()
        seconds = min(RATE_WINDOW_S, now_s - (self.first_result_s or now_s))
        return len(self._arrivals_s) / seconds if seconds > 0 else 0.0

    def latency_s(self, quantile: float, latest: int = 0) -> float | None:
        """The latency that `quantile` of the results (of the `latest` so many) did not exceed; nearest rank."""
        ordered = sorted(self.latencies_s[-latest:])
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
            "judged": self.judged,
            "accuracy": self.accuracy,
            "texts_per_s": round(self.results / took_s, 1) if took_s else None,
            "latency_p50_s": round(p50, 3) if p50 is not None else None,
            "latency_p99_s": round(p99, 3) if p99 is not None else None,
        }


def one_line(tally: Tally, now_s: float) -> str:
    """The numbers of the moment."""
    return (
        f"published {tally.published}  results {tally.results}  dead letters {tally.dead_letters}  lag {tally.lag}  "
        f"{tally.texts_per_s(now_s):.0f} texts/s  latency p50 {_seconds(tally.latency_s(0.5, LATEST))} "
        f"p99 {_seconds(tally.latency_s(0.99, LATEST))}  accuracy {_accuracy(tally)}"
    )


class View:
    """Shows progress before the run and numbers during it."""

    def __init__(self, console: Console, metrics_url: str) -> None:
        self._console, self._metrics_url = console, metrics_url
        self._live: Live | None = None
        self._next_s = 0.0

    def say(self, line: str) -> None:
        """A line of progress."""
        self._console.print(cell(line), soft_wrap=True)

    @contextmanager
    def running(self, tally: Tally) -> Iterator[None]:
        """Show the tally on a terminal until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self._panel(tally), console=self._console, auto_refresh=False) as self._live:
            yield
        self._live = None

    def update(self, tally: Tally) -> None:
        """Called often; prints a line now and then where there is no terminal."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        if self._live:
            self._live.update(self._panel(tally), refresh=True)
        else:
            self.say(one_line(tally, now_s))
        self._next_s = now_s + (LIVE_EVERY_S if self._live else PLAIN_EVERY_S)

    def _panel(self, tally: Tally) -> Panel:
        numbers = Table.grid(padding=(0, 3))
        numbers.add_row("texts/s", f"{tally.texts_per_s(time.monotonic()):.0f}", "published", str(tally.published))
        numbers.add_row("lag", str(tally.lag), "results", str(tally.results))
        numbers.add_row("latency p50", _seconds(tally.latency_s(0.5, LATEST)), "dead letters", str(tally.dead_letters))
        numbers.add_row("latency p99", _seconds(tally.latency_s(0.99, LATEST)), "labels sent", str(tally.labels))
        texts = Table(box=None, expand=True, pad_edge=False)
        texts.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
        texts.add_column("label")
        texts.add_column("confidence", justify="right")
        for text, label, score in tally.recent:
            texts.add_row(cell(" ".join(text.split())), cell(label), f"{score:.2f}")
        accuracy = Text(f"accuracy {_accuracy(tally)}", style="bold")
        return Panel(
            Group(numbers, Text(), accuracy, Text(), texts),
            title="Streamgauge",
            subtitle=f"{self._metrics_url} · Ctrl-C ends",
        )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _accuracy(tally: Tally) -> str:
    return "no labels yet" if tally.accuracy is None else f"{tally.accuracy:.1%} of {tally.judged} labelled"
