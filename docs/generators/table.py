"""Tables of Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """With a line at the end; empty without rows."""
    lines = [_line(row) for row in rows]
    return "\n".join([_line(head), "|---" * len(head) + "|", *lines]) + "\n" if lines else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
