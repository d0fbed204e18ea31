"""How a picture is shown on a terminal from 60 columns on. Pure.

A frame uses the terminal's own foreground, bold, dim, green and red, which can be read on light and dark alike. No
colour says what no word says. Where a terminal has only ASCII, so has the frame.
"""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamgauge.commands.top.accuracy import Accuracy
from streamgauge.commands.top.picture import Picture, numbers
from streamgauge.commands.top.replicas import GONE, MEMBER, READY, WorkerRow
from streamgauge.commands.top.words import (
    audit_words,
    count_or_dash,
    counts,
    dead_letters,
    duration,
    lag_words,
    percent,
    rate,
    share_words,
)
from streamgauge.terminal import harmless

MEDIUM_COLUMNS, WIDE_COLUMNS, DOUBLE_COLUMNS = 76, 110, 170
"""Of a frame less its border. From these on there is room for more of a row, and for two halves side by side."""
SHOWN_MODELS = 3
ONE_LOOK = "holds for one look"
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-:=+*#"


def spark(values: Sequence[float | None], width: int, bars: str) -> str:
    """The last values as bars from 0 to the largest; a blank where nothing is known."""
    shown = values[-width:] if width else []
    most = max((value for value in shown if value is not None), default=0) or 1
    return "".join(" " if value is None else bars[round(value / most * (len(bars) - 1))] for value in shown)


class Spark:
    """A spark line as wide as there is room, the newest at the right."""

    def __init__(self, values: Sequence[float | None]) -> None:
        self._values = values

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        line = spark(self._values, options.max_width, ASCII_BARS if options.ascii_only else BARS)
        yield Text(line, no_wrap=True, justify="right", overflow="crop")

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


class Frame:
    """A picture on a terminal. `ending`: how a person ends it."""

    def __init__(self, picture: Picture, title: str, ending: str) -> None:
        self._picture, self._title, self._ending = picture, title, ending

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        half = width // 2 - 4 if width >= DOUBLE_COLUMNS else width - 4
        parts = Parts(self._picture, half, max(3, options.size.height // 3), is_ascii=options.ascii_only)
        left = Group(*_spaced([parts.flow(), *parts.accuracies()]))
        right = Group(*_spaced([*parts.replicas(), *parts.said()]))
        body: RenderableType
        if width >= DOUBLE_COLUMNS:
            body = Table.grid(padding=(0, 2), expand=True)
            body.add_column(ratio=1)
            body.add_column(ratio=1)
            body.add_row(left, right)
        else:
            body = Group(left, Text(), right)
        title, ending = (parts.text(line) for line in (self._title, self._ending))
        yield Panel(Group(*parts.problems(), body), title=title, subtitle=ending)


class Parts:
    """The parts of a frame; `width` in columns, at most `most_rows` replicas of a kind."""

    def __init__(self, picture: Picture, width: int, most_rows: int, *, is_ascii: bool) -> None:
        self._picture, self._width, self._most_rows, self._is_ascii = picture, width, most_rows, is_ascii
        self._overflow: OverflowMethod = "crop" if is_ascii else "ellipsis"

    def text(self, line: str, style: str = "") -> Text:
        """In one line, of the characters that the terminal has; it steers no terminal."""
        line = harmless(line)
        if self._is_ascii:
            line = line.encode("ascii", "backslashreplace").decode()
        return Text(line, style, no_wrap=True, overflow=self._overflow)

    def flow(self) -> RenderableType:
        picture = self._picture
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True)
        grid.add_row("texts/s", self.text(rate(picture.records_per_s), "bold"), Spark(picture.rates))
        latency = f"p50 {duration(picture.p50_s)}, p99 {duration(picture.p99_s)}"
        grid.add_row("latency", self.text(latency, "bold"), Spark(picture.p99s_s))
        grid.add_row("lag", self.text(self._lag(), "bold"), Spark(picture.lags))
        grid.add_row("dead letters", self.text(dead_letters(picture)))
        if picture.counts:
            grid.add_row("so far", self.text(counts(picture)))
        return grid

    def _lag(self) -> str:
        lag = self._picture.lag
        is_told = lag.oldest_s and self._width >= MEDIUM_COLUMNS
        return lag_words(lag) + (f", oldest {duration(lag.oldest_s)}" if is_told else "")

    def accuracies(self) -> Iterator[RenderableType]:
        found = self._picture.accuracies
        for accuracy in found[:SHOWN_MODELS]:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(no_wrap=True, style="dim")
            for _number in range(3):
                grid.add_column(no_wrap=True)
            grid.add_column()
            grid.add_row("audit", *audit_words(accuracy), self.text(self._about_audit(accuracy), "dim"))
            grid.add_row(
                "all labels",
                *share_words(accuracy.labels, accuracy.labels.interval),
                self.text(self._about_all(accuracy), "dim"),
            )
            yield Group(Text.assemble(("accuracy ", "bold"), self.text(accuracy.model)), Padding(grid, (0, 0, 0, 2)))
        if len(found) > SHOWN_MODELS:
            yield self.text(f"and {len(found) - SHOWN_MODELS} more models", "dim")

    def _about_audit(self, accuracy: Accuracy) -> str:
        if self._width < MEDIUM_COLUMNS:
            return ""
        if self._width < WIDE_COLUMNS:
            return "holds at every look" if accuracy.sequence else ONE_LOOK
        if accuracy.sequence:
            return f"of {accuracy.chosen:,} chosen by chance; holds however often one looks"
        return f"chosen by chance; {ONE_LOOK} until labels mature"

    def _about_all(self, accuracy: Accuracy) -> str:
        if self._width >= WIDE_COLUMNS:
            right, judged = accuracy.recent
            last_hour = f"last hour {percent(right / judged)} of {judged:,}" if judged else "none of the last hour"
            return f"by anyone; {ONE_LOOK}; {last_hour}"
        return ONE_LOOK if self._width >= MEDIUM_COLUMNS else ""

    def replicas(self) -> Iterator[RenderableType]:
        if workers := self._picture.workers:
            yield Group(self._workers(workers[: self._most_rows]), *self._more(len(workers)))
        if listeners := self._picture.listeners:
            table = self._table("listener", "results partitions", "labelled")
            for row in listeners[: self._most_rows]:
                table.add_row(self.text(row.url), self.text(numbers(row.partitions)), f"{row.judged:,}")
            yield Group(table, *self._more(len(listeners)))

    def _more(self, count: int) -> Iterator[Text]:
        if count > self._most_rows:
            yield self.text(f"and {count - self._most_rows} more", "dim")

    def _workers(self, rows: Sequence[WorkerRow]) -> Table:
        is_medium, is_wide = self._width >= MEDIUM_COLUMNS, self._width >= WIDE_COLUMNS
        table = self._table("worker", "", "texts/s", "lag")
        if is_medium:
            table.add_column("p99", justify="right", no_wrap=True)
            table.add_column("partitions", no_wrap=True, overflow=self._overflow)
        if is_wide:
            table.add_column("memory", justify="right", no_wrap=True)
            table.add_column("", ratio=1, no_wrap=True)
        for row in rows:
            cells: list[RenderableType] = [
                self.text(row.name),
                state(row),
                rate(row.records_per_s),
                count_or_dash(row.lag),
            ]
            if is_medium:
                owned = "-" if row.partitions is None else numbers(row.partitions)
                cells += [duration(row.p99_s), self.text(owned)]
            if is_wide:
                cells += ["-" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:.0f} MB"]
            table.add_row(*cells, *([Spark(row.rates)] if is_wide else []))
        return table

    def _table(self, name: str, *columns: str) -> Table:
        """The first column gives way when there is no room; numbers stand at the right."""
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(name, no_wrap=True, overflow=self._overflow, ratio=1)
        for column in columns:
            table.add_column(
                column, no_wrap=True, justify="right" if column in ("texts/s", "lag", "labelled") else "left"
            )
        return table

    def said(self) -> Iterator[RenderableType]:
        if self._picture.said is None:
            return
        table = self._table("text", "label")
        table.add_column("confidence", justify="right", no_wrap=True)
        for text, label, score in self._picture.said:
            line = self.text("(no longer retained)" if text is None else " ".join(text.split()))
            table.add_row(line, self.text(label), f"{score:.2f}")
        yield table

    def problems(self) -> Iterator[RenderableType]:
        for problem in self._picture.problems:
            line = self.text(f"! {problem}", "red")
            line.no_wrap, line.overflow = False, "fold"
            yield line


def _spaced(parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for number, part in enumerate(parts):
        if number:
            yield Text()
        yield part


def state(row: WorkerRow) -> Text:
    """In words, and in colour where there is one."""
    if row.state == READY:
        return Text(row.state, "green")
    silent = f" {row.silent_s:.0f} s" if row.silent_s is not None and row.state == GONE else ""
    return Text(row.state + silent, "" if row.state == MEMBER else "red")
