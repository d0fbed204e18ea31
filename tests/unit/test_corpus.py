"""Texts and labels from files of every kind, and what is said about broken ones."""

from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from producer import corpus
from producer.corpus import Sample
from streamgauge.errors import ConfigurationError
from streamgauge.events import Feedback

SECRET = "secret-content"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text,label\n1,"good, very",pos\n,bad,0\n7, plain ,\n'),
        ("a.CSV", 'sentiment,ID,Review\npositive,1,"good, very"\nNEG,,bad\n,7,plain\n'),
        ("a.tsv", "text\tlabel\tid\ngood, very\t1\t1\nbad\tnegative\t\n\t\t\nplain\t\t7\n"),
        (
            "a.jsonl",
            '{"text":"good, very","label":1,"id":1}\n\n{"text":"bad","label":"Neg","x":[]}\n{"text":"plain","id":"7"}',
        ),
    ],
)
def test_formats_agree(tmp_path: Path, name: str, content: str) -> None:
    """The same texts, labels and ids come out of every format with fields."""
    path = tmp_path / name
    path.write_text(content)

    assert list(corpus.read(path)) == [
        Sample("good, very", "POSITIVE", "1"),
        Sample("bad", "NEGATIVE"),
        Sample("plain", None, "7"),
    ]


def test_one_text_a_line(tmp_path: Path) -> None:
    """Any other file, and a stream, has one text a line; blank lines, line ends and a byte order mark are dropped."""
    content = 'one "quoted, text"\r\n\n   \nzwei Wörter'
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())

    expected = [Sample('one "quoted, text"'), Sample("zwei Wörter")]
    assert list(corpus.read(path)) == expected
    assert list(corpus.lines(StringIO(content))) == expected


def test_csv_text_over_several_lines(tmp_path: Path) -> None:
    """A quoted text keeps its line breaks."""
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"first\nsecond",1\n')

    assert list(corpus.read(path)) == [Sample("first\nsecond", "POSITIVE")]


def test_tsv_quotes_are_text(tmp_path: Path) -> None:
    """In a .tsv file a quotation mark is a character like any other."""
    path = tmp_path / "a.tsv"
    path.write_text('sentence\tlabel\n"begins and never ends\t1\n')

    assert list(corpus.read(path)) == [Sample('"begins and never ends', "POSITIVE")]


def test_unknown_label_is_kept() -> None:
    """A label of another classifier is kept, in upper case."""
    assert corpus.normalise_label("mixed") == "MIXED"


def test_reading_streams(tmp_path: Path) -> None:
    """The first texts come before the rest is looked at."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "first"}\nbroken\n')

    assert next(corpus.read(path)) == Sample("first")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"user,body\nx,y\n", "text or sentence or review or content; it names: user, body"),
        ("a.csv", b"", "it names: nothing"),
        ("a.csv", f"text,label\nfine,1\n{SECRET}\n".encode(), "line 3: 1 columns, the header has 2"),
        ("a.csv", f'text,label\n"{SECRET}" x,1\n'.encode(), "line 2: "),
        ("a.csv", f"text,label\n{SECRET},{'x' * 129}\n".encode(), "line 2: label is longer than 128"),
        ("a.jsonl", f'{{"text": "fine"}}\n["{SECRET}"]\n'.encode(), "line 2: not a JSON object"),
        ("a.jsonl", f'{{"text": "{SECRET}\\ud800"}}\n'.encode(), "line 1: not a JSON object"),
        ("a.jsonl", f'{{"text": ["{SECRET}"]}}\n'.encode(), "line 1: text is neither a string"),
        ("a.jsonl", b'{"text": "fine", "label": true}\n', "line 1: label is neither a string"),
        ("a.txt", f"fine\n{SECRET} \xff\n".encode("latin-1"), "line 2: not UTF-8"),
    ],
)
def test_broken_file(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    """A broken file is refused with its name and the place, and without its content."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as refusal:
        list(corpus.read(path))

    assert str(refusal.value).startswith(str(path))
    assert complaint in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    """What is no file is refused by name."""
    with pytest.raises(ConfigurationError, match=r"none\.csv: No such file"):
        list(corpus.read(tmp_path / "none.csv"))
    with pytest.raises(ConfigurationError, match="Is a directory"):
        list(corpus.read(tmp_path))


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_undecodable_stream(errors: str) -> None:
    """Bytes that are not UTF-8 are refused on standard input, however Python has opened it."""
    stream = TextIOWrapper(BytesIO(b"fine\n\xff\n"), encoding="utf-8", errors=errors)

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        list(corpus.lines(stream))


def test_bundled_sample() -> None:
    """The sample that comes along has 2,000 texts, most of them labelled, in a form that can be published as it is."""
    samples = corpus.bundled()

    assert len(samples) == 2000
    labels = [sample.label for sample in samples]
    assert set(labels) == {"POSITIVE", "NEGATIVE", None}
    assert min(labels.count("NEGATIVE"), labels.count(None)) > 400
    assert not any("&amp;" in sample.text or "\t" in sample.text for sample in samples)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "source,label,id\nanna,1,producer/a\n,mixed,b\n"),
        ("l.tsv", "id\tsentiment\tsource\nproducer/a\tpositive\tanna\nb\tMixed\t\n"),
        ("l.ndjson", '{"id": "producer/a", "label": "POS", "source": "anna"}\n{"id": "b", "label": "mixed"}\n'),
    ],
)
def test_feedback(tmp_path: Path, name: str, content: str) -> None:
    """Labels by message id come out of every format with fields."""
    path = tmp_path / name
    path.write_text(content)

    assert list(corpus.read_feedback(path)) == [
        Feedback(id="producer/a", label="POSITIVE", source="anna"),
        Feedback(id="b", label="MIXED"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("l.csv", "id,text\na,b\n", "must name a column label or sentiment; it names: id, text"),
        ("l.csv", "id,label\na,\n", "line 2: no label"),
        ("l.jsonl", '{"label": "1"}', "line 1: no id"),
        ("l.jsonl", f'{{"label": "1", "id": "{"x" * 257}"}}', "line 1: id is longer than 256 characters"),
        ("l.txt", "a 1\n", "labels are read from .csv, .tsv, .jsonl, .ndjson"),
    ],
)
def test_broken_feedback(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    """Labels without an id, ids without a label, and files that cannot have both, are refused with the place."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ConfigurationError) as refusal:
        list(corpus.read_feedback(path))

    assert complaint in str(refusal.value)
