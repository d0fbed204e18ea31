"""A file of texts, of labels, or of both, read once as a whole before its first record is sent.

So a file that breaks late is refused before anything of it is in Kafka. It may be larger than the memory. Errors name
file and line, never a text.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from producer.decoding import broken, lines_of
from producer.rows import ID, LABEL, SOURCE, TEXT, Names, Row, plain, rows_of
from streamgauge.errors import ConfigurationError
from streamgauge.events import MAX_ID_CHARS, MAX_LABEL_CHARS, Feedback, encode

MADE_BY = "producer"
"""Ids that begin so were made here."""
MAX_DISTINCT_LABELS = 1000
FRAME_BYTES = 512
"""What a record has at most beside its text and its id."""


class Sample(NamedTuple):
    """A text, its true label where it is known, and its id where it has one of its own."""

    text: str
    label: str | None = None
    id: str | None = None


class Entry(NamedTuple):
    """What a row of a file says; None: the row does not say it."""

    row: Row
    text: str | None
    id: str | None
    label: str | None
    """As it stands in the file, without the blanks around it."""

    @classmethod
    def of(cls, row: Row) -> "Entry":
        """Raises ConfigurationError for an id or a text that cannot be one. A label stops nobody who needs none."""
        own_id = row.get(ID)
        if own_id and len(own_id) > MAX_ID_CHARS:
            raise row.broken(f"id is longer than {MAX_ID_CHARS} characters")
        return cls(row, row.get(TEXT), own_id, row.get_any(LABEL))


Check = Callable[[Entry], None]
"""Raises ConfigurationError for an entry that must not be sent."""


class Corpus:
    """A file that has been checked as a whole; `texts` and `labels` count what it holds.

    A row without an id gets one made of all texts of the file and its place among them: the same whenever the file is
    read, also after labels have been added. So one file serves `produce` and `feedback`.

    Raises ConfigurationError at the first thing that is wrong: file, format, a missing column, a row.
    """

    def __init__(self, path: Path, needs: tuple[Names, ...], check: Check) -> None:
        self.path = path
        self.texts = 0
        self.without_text = 0
        self.without_label = 0
        self._labels = Counter[str]()
        self._needs = needs
        # Not Path's own: they raise for a name that no file can have.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigurationError(f"{path}: no file that can be read twice; lines of text can go to standard input")
        digest = hashlib.blake2b(digest_size=8)
        for entry in self._entries():
            check(entry)
            if entry.text:
                self.texts += 1
                digest.update(entry.text.encode() + b"\0")
            else:
                self.without_text += 1
            if entry.label is None:
                self.without_label += 1
            elif entry.label in self._labels or len(self._labels) <= MAX_DISTINCT_LABELS:
                self._labels[entry.label] += 1
        self._digest = digest.hexdigest()

    @classmethod
    def of_texts(cls, path: Path, max_record_bytes: int) -> "Corpus":
        """A file to be scored: it must have texts, each small enough for a record."""
        corpus = cls(path, (TEXT,), lambda entry: _fits(entry, max_record_bytes))
        if not corpus.texts:
            raise ConfigurationError(f"{path}: there is no text in it")
        return corpus

    @classmethod
    def of_labels(cls, path: Path) -> "Corpus":
        """A file of labels: it must have labels, each with an id or with the text that makes the id."""
        corpus = cls(path, (LABEL, (*ID, *TEXT)), _is_feedback)
        if not corpus.labels:
            raise ConfigurationError(f"{path}: there is no label in it")
        return corpus

    @property
    def labels(self) -> Counter[str]:
        """How often each label is there. Raises ConfigurationError when there are so many that they are no classes."""
        if len(self._labels) > MAX_DISTINCT_LABELS:
            raise ConfigurationError(
                f"{self.path}: more than {MAX_DISTINCT_LABELS} different labels; are they classes?"
            )
        return self._labels

    def entries(self) -> Iterator[Entry]:
        """All rows, each with an id where it has a text."""
        number = 0
        for entry in self._entries():
            number += bool(entry.text)
            made = f"{MADE_BY}/{self._digest}-{number}" if entry.text else None
            yield entry if entry.id else entry._replace(id=made)

    def samples(self) -> Iterator[Sample]:
        """The texts."""
        return (Sample(entry.text, entry.label, entry.id) for entry in self.entries() if entry.text)

    def feedback(self) -> Iterator[Feedback]:
        """The labels, as they stand in the file."""
        for entry in self.entries():
            if entry.label and entry.id:
                yield Feedback(id=entry.id, label=entry.label, source=entry.row.get_any(SOURCE))

    def _entries(self) -> Iterator[Entry]:
        with closing(lines_of(self.path, str(self.path))) as lines:
            for row in rows_of(self.path, lines, self._needs):
                yield Entry.of(row)


def texts_and_labels(path: Path) -> tuple[list[str], list[str]]:
    """The texts of a file that have a label, and the labels. Raises ConfigurationError, also when there is none."""
    corpus = Corpus(path, (TEXT, LABEL), lambda _entry: None)
    pairs = [(sample.text, sample.label) for sample in corpus.samples() if sample.label]
    if not pairs:
        raise ConfigurationError(f"{path}: no text in it has a label")
    texts, labels = zip(*pairs, strict=True)
    return list(texts), list(labels)


def bundled() -> list[Sample]:
    """The sample that comes along: about 2,000 English reviews and tweets, four fifths of them labelled."""
    corpus = Corpus(Path(__file__).with_name("sample.tsv"), (TEXT,), lambda _entry: None)
    return [sample._replace(id=None) for sample in corpus.samples()]


def arguments(texts: Iterable[str], max_record_bytes: int) -> list[Sample]:
    """Texts of the command line, as they are. Raises ConfigurationError for one that cannot be sent."""
    samples = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise broken("arguments", f"text {number}", "empty")
        if what := _too_large(text, "", max_record_bytes):
            raise broken("arguments", f"text {number}", what)
        samples.append(Sample(text))
    return samples


def standard_input(max_record_bytes: int, descriptor: int = 0) -> Iterator[Sample]:
    """One text a line, as it comes; blank lines are left out. Raises ConfigurationError at what cannot be sent."""
    for row in plain("standard input", lines_of(descriptor, "standard input")):
        entry = Entry.of(row)
        _fits(entry, max_record_bytes)
        if entry.text:
            yield Sample(entry.text)


def _fits(entry: Entry, max_record_bytes: int) -> None:
    if entry.text and (what := _too_large(entry.text, entry.id or "", max_record_bytes)):
        raise entry.row.broken(what)


def _too_large(text: str, own_id: str, max_record_bytes: int) -> str | None:
    # At most, a character has six bytes in JSON, as which a text may be sent, and four in a header.
    frame_bytes = FRAME_BYTES + 10 * len(own_id)
    if len(text) * 6 + frame_bytes <= max_record_bytes:
        return None
    size_bytes = len(encode(text)) + frame_bytes
    if size_bytes <= max_record_bytes:
        return None
    return f"a record of {size_bytes} bytes; the limit is {max_record_bytes} (STREAMGAUGE_TOPIC_MAX_MESSAGE_BYTES)"


def _is_feedback(entry: Entry) -> None:
    if entry.label is None:
        return
    if not (entry.id or entry.text):
        raise entry.row.broken("a label without an id")
    for name, value in ("label", entry.label), ("source", entry.row.get_any(SOURCE)):
        if value and len(value) > MAX_LABEL_CHARS:
            raise entry.row.broken(f"{name} is longer than {MAX_LABEL_CHARS} characters")
