"""Words for people at a terminal: what strangers have written (ids, labels, names) steers none, one is no plural."""

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


def is_text(given: str) -> bool:
    """Whether it can be encoded: bytes of the system that are not UTF-8 are lone surrogates in Python."""
    return not any("\ud800" <= char <= "\udfff" for char in given)


def counted(n: int, what: str) -> str:
    """`1 text`, `2 texts`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
