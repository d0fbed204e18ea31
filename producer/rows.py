"""Lines as rows with named fields. The suffix says what a file is, never a guess at its content.

`.csv` has a header row, and its columns are parted as the header shows; `.tsv` knows no quotes, as in GLUE's files;
`.json`, `.jsonl` and `.ndjson` have one object a line, or one array of objects; `.txt` and files without a suffix
have one text a line. Each may be packed: `.csv.gz`.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from producer.decoding import MAX_HELD_CHARS, broken
from streamgauge.errors import ConfigurationError

Names = tuple[str, ...]
"""The names that one column may have, in lower case; the first that is there counts."""
TEXT: Names = ("text", "sentence", "review", "content")
LABEL: Names = ("label", "sentiment")
ID: Names = ("id",)
SOURCE: Names = ("source",)

TABLES = (".csv", ".tsv")
JSON = (".json", ".jsonl", ".ndjson")
PLAIN = ("", ".txt", ".text")
DELIMITERS = ",;\t|"
SHOWN_NAMES = 12
COLUMN_NAME = re.compile(r"(?!.{41})([^\W\d]\w*([ .:/-]+\w+){0,3})?")
"""A few words; empty, as pandas calls its index."""

_decode_object = msgspec.json.Decoder(dict[str, object]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Row(NamedTuple):
    """One record, and where it stood: `place` is `line` or `item`, `number` counts from 1."""

    name: str
    place: str
    number: int
    fields: Mapping[str, object]
    """By name, in lower case."""

    def get(self, names: Names) -> str | None:
        """The value without the blanks around it; None when it is missing or empty.

        Raises ConfigurationError when it is neither a string nor a number.
        """
        value = self._value(names)
        if isinstance(value, bool | dict | list):
            raise self.broken(f"{names[0]} is neither a string nor a number")
        return as_text(value).strip() or None

    def get_any(self, names: Names) -> str | None:
        """As `get`; what is neither a string nor a number is given as JSON."""
        return as_text(self._value(names)).strip() or None

    def _value(self, names: Names) -> object:
        for name in names:
            if name in self.fields:
                return self.fields[name]
        return None

    def broken(self, what: str) -> ConfigurationError:
        return broken(self.name, f"{self.place} {self.number}", what)


def as_text(value: object) -> str:
    """A JSON value as people write it; 1.0 is 1: so pandas writes whole numbers where any of them is missing."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else msgspec.json.encode(value).decode()


def rows_of(path: Path, lines: Iterator[str], needs: Iterable[Names]) -> Iterator[Row]:
    """The rows of a file; at least one must have each of the columns that are needed. Raises ConfigurationError."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = ([""] + [suffix for suffix in suffixes if suffix != ".gz"])[-1]
    if suffix in TABLES:
        return _table(str(path), lines, tuple(needs), is_quoted=suffix == ".csv")
    if suffix in JSON:
        return _objects(str(path), lines, tuple(needs))
    if suffix in PLAIN:
        if any(not set(names) & set(TEXT) for names in needs):
            raise ConfigurationError(f"{path}: labels are read from {', '.join((*TABLES, *JSON))}")
        return plain(str(path), lines)
    known = ", ".join((*TABLES, *JSON, ".txt"))
    raise ConfigurationError(f"{path}: files of texts are {known}, each also with .gz; {suffix} is none of them")


def plain(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """One text a line. What begins as another format is refused, and not published line by line."""
    is_first = True
    for number, line in enumerate(lines, 1):
        if is_first and (text := line.strip()):
            _refuse_other_format(name, number, text)
            is_first = False
        yield Row(name, "line", number, {"text": line})


def _refuse_other_format(name: str, number: int, text: str) -> None:
    columns = {column.strip().strip('"').lower() for column in re.split(f"[{DELIMITERS}]", text)}
    if columns & set(TEXT) and columns & {*LABEL, *ID}:
        raise broken(name, f"line {number}", "the header of a table, not a text; give it as --file NAME.csv or .tsv")
    if text.startswith(("{", "[")) and _is_json(text):
        raise broken(name, f"line {number}", "JSON, not a text; give it as --file NAME.jsonl")


def _is_json(text: str) -> bool:
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(decoded, dict) or (isinstance(decoded, list) and any(isinstance(one, dict) for one in decoded))


# Tables


def _table(name: str, lines: Iterator[str], needs: tuple[Names, ...], *, is_quoted: bool) -> Iterator[Row]:
    csv.field_size_limit(MAX_HELD_CHARS)
    first = next(lines, "")
    says = re.fullmatch(f"sep=([{DELIMITERS}])[\r\n]*", first)  # Excel's
    skipped = 1 if says else 0
    first = next(lines, "") if says else first
    delimiters = "\t" if not is_quoted else says[1] if says else DELIMITERS
    delimiter, header = _header(name, first, delimiters, needs, is_quoted=is_quoted)
    watched = _Watched(lines, skipped + 1)
    began = skipped + 2
    try:
        for values in _reader(watched, delimiter, is_quoted=is_quoted):
            number, began = began, watched.number + 1
            if not values:
                continue
            if len(values) != len(header):
                raise broken(name, f"line {number}", _ragged(len(values), len(header), delimiter, is_quoted=is_quoted))
            yield Row(name, "line", number, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise broken(name, f"line {began}", _cause(error, watched.last)) from None


class _Watched:
    """Lines, with the number of the last one and what it holds: for the place and the cause of an error."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self.number, self.last = lines, number, ""

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            self.last = line
            yield line


def _reader(lines: Iterable[str], delimiter: str, *, is_quoted: bool) -> Iterator[list[str]]:
    if is_quoted:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)


def _header(
    name: str, line: str, delimiters: str, needs: tuple[Names, ...], *, is_quoted: bool
) -> tuple[str, list[str]]:
    """The delimiter by which the first line names the columns that are needed, and the names."""
    splits = [(delimiter, _split(line, delimiter, is_quoted=is_quoted)) for delimiter in delimiters]
    for delimiter, header in splits:
        if _names(header, needs):
            return delimiter, header
    if not is_quoted and (meant := [one for one in ",;|" if _names(_split(line, one, is_quoted=True), needs)]):
        raise ConfigurationError(f"{name}: its columns are parted by {meant[0]!r}, not by tabs; name it .csv")
    likely = max((header for _delimiter, header in splits), key=len)
    raise _missing(f"{name}: the first line must name a column", needs, likely)


def _names(header: list[str], needs: tuple[Names, ...]) -> bool:
    return all(set(names) & set(header) for names in needs)


def _split(line: str, delimiter: str, *, is_quoted: bool) -> list[str]:
    try:
        return [column.strip().lower() for column in next(_reader([line], delimiter, is_quoted=is_quoted), [])]
    except csv.Error:
        return []


def _missing(begin: str, needs: tuple[Names, ...], found: list[str]) -> ConfigurationError:
    """Which column is missing, and which may be meant. A first line that is no header holds texts, and is not shown."""
    names = next(names for names in needs if not set(names) & set(found))
    message = f"{begin} {' or '.join(names)}"
    if not all(COLUMN_NAME.fullmatch(column) for column in found):
        return ConfigurationError(f"{message}; it seems to be no header: add one above it")
    near = [column for column in found if any(part in column for part in names)]
    hint = f"; if {near[0]} is it, rename it to {names[0]}" if near else ""
    shown = ", ".join(found[:SHOWN_NAMES]) or "nothing"
    return ConfigurationError(f"{message}; there are: {shown}{hint}")


def _ragged(found: int, expected: int, delimiter: str, *, is_quoted: bool) -> str:
    what = f"{found} columns, the header has {expected}"
    if found > expected and is_quoted:
        return f"{what}; a text that holds {delimiter!r} must stand in quotation marks"
    return what


def _cause(error: csv.Error, line: str) -> str:
    """What the csv module found, in words that say what to do."""
    if "expected after" in str(error):
        if '\\"' in line:
            return 'a quotation mark inside a quoted text is written twice, "", not with a backslash'
        return 'text after a closing quotation mark; one inside a quoted text is written twice, ""'
    if "unexpected end of data" in str(error) or "field limit" in str(error):
        return "a quotation mark is opened here and never closed"
    return str(error)


# JSON


def _objects(name: str, lines: Iterator[str], needs: tuple[Names, ...]) -> Iterator[Row]:
    numbered = enumerate(lines, 1)
    first = next(((number, line) for number, line in numbered if line.strip()), None)
    if first is None:
        return
    is_array = first[1].lstrip().startswith("[")
    rows = _array(name, first[1], lines) if is_array else _object_lines(name, chain([first], numbered))
    missing, found = needs, list[str]()
    for row in rows:
        if missing:
            missing = tuple(names for names in missing if not set(names) & row.fields.keys())
            found = found or [key for key in row.fields if COLUMN_NAME.fullmatch(key)]
        yield row
    if missing:
        raise _missing(f"{name}: its objects must have a key", missing, found)


def _object_lines(name: str, numbered: Iterable[tuple[int, str]]) -> Iterator[Row]:
    for number, line in numbered:
        if line.strip():
            yield _object(name, "line", number, line)


def _array(name: str, first: str, rest: Iterable[str]) -> Iterator[Row]:
    parts, chars = [first], len(first)
    for line in rest:
        parts.append(line)
        chars += len(line)
        if chars > MAX_HELD_CHARS:
            what = f"an array of more than {MAX_HELD_CHARS} characters; with one object a line it may have any size"
            raise ConfigurationError(f"{name}: {what}: jq -c '.[]' FILE > NEW_FILE.jsonl")
    try:
        items = _decode_array("".join(parts))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigurationError(f"{name}: not a JSON array: {error}") from None
    for number, item in enumerate(items, 1):
        yield _object(name, "item", number, item)


def _object(name: str, place: str, number: int, source: str | msgspec.Raw) -> Row:
    try:
        fields = _decode_object(source)
    except (msgspec.MsgspecError, RecursionError):
        what = "not a JSON object; a JSON file has one object a line, or is one array of objects"
        raise broken(name, f"{place} {number}", what) from None
    return Row(name, place, number, {key.strip().lower(): value for key, value in fields.items()})
