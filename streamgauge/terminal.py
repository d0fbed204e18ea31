"""What strangers have written (ids, labels, names), as it may be shown to people: it steers no terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def harmless(line: str) -> str:
    """Without what would steer a terminal, or look like another line."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)


def cell(line: str) -> "Text":
    """The same for a table: nothing in it is taken for markup."""
    from rich.text import Text  # services never show a table

    return Text(harmless(line))
