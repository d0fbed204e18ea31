"""Bytes of a file or of standard input as lines of text: gzip, UTF-8 and UTF-16, any line ends.

Nothing is guessed: what is neither UTF-8 nor marked as UTF-16 is refused, with the likely cause.
"""

import gzip
import io
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from streamgauge.errors import ConfigurationError

MAX_HELD_CHARS = 64 * 2**20
"""Of a line, a cell or a JSON array: a file without line ends must not fill the memory."""
HEAD_BYTES = 65_536
GZIP = b"\x1f\x8b"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
FOREIGN = {
    b"PK\x03\x04": "a zip archive, as Excel's .xlsx is; save it as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel file; save it as CSV",
    b"PAR1": "a Parquet file; convert it to CSV or to JSON, one object a line",
}
"""Files that people have, by their first bytes, and what to do with them."""


def broken(name: str, place: str, what: str) -> ConfigurationError:
    """What is wrong with a file, and where; never with its content."""
    return ConfigurationError(f"{name}, {place}: {what}")


def lines_of(source: Path | int, name: str) -> Generator[str, None, None]:
    """The lines of a file, or of what is open under this number, with their ends.

    Raises ConfigurationError, naming the line, when they are no text or when one is too long.
    """
    number = 0
    try:
        with open(source, "rb", buffering=0, closefd=isinstance(source, Path)) as file:
            text = _decoded(io.BufferedReader(file, HEAD_BYTES), name)
            while line := text.readline(MAX_HELD_CHARS + 1):
                number += 1
                if len(line) > MAX_HELD_CHARS:
                    raise broken(name, f"line {number}", f"longer than {MAX_HELD_CHARS} characters")
                if not line.isascii():
                    line.encode()  # bytes that are no text have become lone surrogates
                yield line
    except UnicodeError:
        what = "not UTF-8; if it was written on Windows: iconv -f CP1252 -t UTF-8 FILE > NEW_FILE"
        raise broken(name, f"line {max(1, number)}", what) from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise broken(name, f"after line {number}", "damaged gzip data") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: {error.strerror}") from None


def _decoded(stream: "io.BufferedReader[Any]", name: str) -> io.TextIOWrapper:
    head = stream.peek()
    if head.startswith(GZIP):
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), HEAD_BYTES)
        head = stream.peek()
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise ConfigurationError(f"{name}: this is {what}")
    is_marked = head.startswith(UTF_16)
    if not is_marked and b"\0" in head[:4]:
        raise ConfigurationError(f"{name}: no text, or UTF-16 without a byte order mark; save it as UTF-8")
    encoding, errors = ("utf-16", "surrogatepass") if is_marked else ("utf-8-sig", "surrogateescape")
    begin = head.decode(encoding, "ignore")
    # Old Macs ended lines with CR alone. Elsewhere a CR inside a line is a character like any other.
    line_end = "\r" if "\n" not in begin and "\r" in begin[:-1] else "\n"
    return io.TextIOWrapper(stream, encoding, errors, newline=line_end)
