"""Texts and labels from files, streamed: a file may be larger than the memory.

The suffix says what a file is: `.csv` and `.tsv` have a header row (`.tsv` knows no quotes, as in GLUE's
files), `.jsonl` and `.ndjson` one object a line, anything else one text a line. Errors name file and line,
never content.
"""

import csv
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamgauge.errors import ConfigurationError
from streamgauge.events import MAX_ID_CHARS, MAX_LABEL_CHARS, Feedback

TEXT = ("text", "sentence", "review", "content")
LABEL = ("label", "sentiment")
ID = ("id",)
SOURCE = ("source",)
TABLES = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson")
SENTIMENTS = {
    "1": "POSITIVE",
    "pos": "POSITIVE",
    "positive": "POSITIVE",
    "0": "NEGATIVE",
    "neg": "NEGATIVE",
    "negative": "NEGATIVE",
}
SHOWN_NAME_CHARS = 40

Names = tuple[str, ...]
"""The names that one column may have; the first that is there counts."""

_decode_object = msgspec.json.Decoder(dict[str, object]).decode


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, its true label where it is known, and its id where it has one of its own."""

    text: str
    label: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """One record of a file, and where it stood: `line` counts from 1."""

    path: Path
    line: int
    fields: Mapping[str, object]

    def get(self, names: Names, *, max_chars: int | None = None) -> str | None:
        """The value without the blanks around it; None when it is missing or empty."""
        value = next((self.fields[name] for name in names if name in self.fields), None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise _broken(self.path, self.line, f"{names[0]} is neither a string nor a whole number")
        text = str(value).strip()
        if max_chars and len(text) > max_chars:
            raise _broken(self.path, self.line, f"{names[0]} is longer than {max_chars} characters")
        return text or None

    def require(self, names: Names, *, max_chars: int) -> str:
        """The value, which must be there."""
        value = self.get(names, max_chars=max_chars)
        if value is None:
            raise _broken(self.path, self.line, f"no {names[0]}")
        return value


def bundled() -> list[Sample]:
    """The sample that comes along: about 2,000 English reviews and tweets, four fifths of them labelled."""
    return list(read(Path(__file__).with_name("sample.tsv")))


def read(path: Path) -> Iterator[Sample]:
    """The texts of a file in order, without the blank ones.

    Raises ConfigurationError when the file cannot be read or has no column of texts, and at its first broken
    line.
    """
    if not _has_fields(path):
        with closing(_decoded(path)) as decoded:
            yield from lines(decoded)
        return
    with closing(_rows(path, TEXT)) as rows:
        for row in rows:
            text = row.get(TEXT)
            if text is not None:
                label = row.get(LABEL, max_chars=MAX_LABEL_CHARS)
                yield Sample(text, normalise_label(label) if label else None, row.get(ID, max_chars=MAX_ID_CHARS))


def lines(stream: Iterable[str]) -> Iterator[Sample]:
    """One text a line, blank lines skipped.

    Raises ConfigurationError when the stream is not UTF-8, or when what it decoded to cannot be.
    """
    good = 0
    try:
        for line in stream:
            text = line.strip()
            text.encode()  # what Python could not decode on standard input stands there as lone surrogates
            if text:
                yield Sample(text)
            good += 1
    except UnicodeError:
        raise ConfigurationError(f"the input is not UTF-8, soon after line {good}") from None


def read_feedback(path: Path) -> Iterator[Feedback]:
    """The labels of a `.csv`, `.tsv` or `.jsonl` file with `id`, `label` and, if it likes, `source`.

    Raises ConfigurationError as `read` does, and at a record without id or label.
    """
    if not _has_fields(path):
        raise ConfigurationError(f"{path}: labels are read from {', '.join((*TABLES, *JSON_LINES))}")
    with closing(_rows(path, ID, LABEL)) as rows:
        for row in rows:
            yield Feedback(
                id=row.require(ID, max_chars=MAX_ID_CHARS),
                label=normalise_label(row.require(LABEL, max_chars=MAX_LABEL_CHARS)),
                source=row.get(SOURCE, max_chars=MAX_LABEL_CHARS),
            )


def normalise_label(label: str) -> str:
    """POSITIVE and NEGATIVE for the common ways to write them; any other label in upper case."""
    return SENTIMENTS.get(label.lower(), label.upper())


def _has_fields(path: Path) -> bool:
    return path.suffix.lower() in (*TABLES, *JSON_LINES)


def _rows(path: Path, *required: Names) -> Generator[_Row, None, None]:
    """The records of a file with fields; a table's header must have the required columns."""
    with closing(_decoded(path)) as decoded:
        yield from _table(path, decoded, required) if path.suffix.lower() in TABLES else _json_lines(path, decoded)


def _table(path: Path, decoded: Iterable[str], required: Iterable[Names]) -> Iterator[_Row]:
    reader = (
        csv.reader(decoded, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        if path.suffix.lower() == ".tsv"
        else csv.reader(decoded, strict=True)
    )
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(path, header, required)
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise _broken(path, reader.line_num, f"{len(values)} columns, the header has {len(header)}")
            yield _Row(path, reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise _broken(path, reader.line_num, str(error)) from None


def _check_header(path: Path, header: list[str], required: Iterable[Names]) -> None:
    for names in required:
        if not set(names) & set(header):
            found = ", ".join(name[:SHOWN_NAME_CHARS] for name in header) or "nothing"
            raise ConfigurationError(
                f"{path}: the first line must name a column {' or '.join(names)}; it names: {found}"
            )


def _json_lines(path: Path, decoded: Iterable[str]) -> Iterator[_Row]:
    for number, line in enumerate(decoded, 1):
        if not line.strip():
            continue
        try:
            fields = _decode_object(line)
        except msgspec.MsgspecError:
            raise _broken(path, number, "not a JSON object") from None
        yield _Row(path, number, fields)


def _decoded(path: Path) -> Generator[str, None, None]:
    """The lines of a UTF-8 file, decoded one by one so that the broken one can be named. Closing it closes the file."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise _broken(path, number, "not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _broken(path: Path, line: int, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}, line {line}: {what}")
