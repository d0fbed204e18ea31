"""Texts and labels from files of every kind, one rule for ids, and what is said about broken files."""

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from producer import decoding, rows
from producer.corpus import Corpus, Sample, arguments, bundled
from streamgauge.errors import ConfigurationError
from streamgauge.events import Feedback

SECRET = "secret-content"
LIMIT_BYTES = 1_048_588
COLUMNS = "text", "label", "id"


def texts(path: Path, limit_bytes: int = LIMIT_BYTES) -> list[Sample]:
    return list(Corpus.of_texts(path, limit_bytes).samples())


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        Corpus.of_texts(path, LIMIT_BYTES)
    return str(refused.value)


def lines(*given: str) -> str:
    return "\n".join(given)


OBJECTS = [{"text": "good, very", "label": 1, "id": 1}, {"text": "bad", "label": "Neg", "id": "8", "x": []}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text,label\n1,"good, very",1\n8,bad,Neg\n,,\n7, plain ,\n'),
        ("a.CSV", 'sentiment,ID,Review\n1,1,"good, very"\nNeg,8,bad\n,7,plain\n'),
        ("semicolons.csv", "\ufeffid;text;label\r\n1;good, very;1\r\n8;bad;Neg\r\n7;plain;\r\n"),
        ("excel.csv", "sep=;\r\nid;text;label\r\n1;good, very;1\r\n8;bad;Neg\r\n7;plain;\r\n"),
        ("tabs.csv", "id\ttext\tlabel\n1\tgood, very\t1\n8\tbad\tNeg\n7\tplain\t\n"),
        ("old-mac.csv", 'id,text,label\r1,"good, very",1\r8,bad,Neg\r7,plain,\r'),
        ("utf-16.csv", 'id,text,label\r\n1,"good, very",1\r\n8,bad,Neg\r\n7,plain,\r\n'.encode("utf-16")),
        ("a.csv.gz", gzip.compress(b'id,text,label\n1,"good, very",1\n8,bad,Neg\n7,plain,\n')),
        ("big.csv", f'id,text,label,html\n1,"good, very",1,{"x" * 200_000}\n8,bad,Neg,\n7,plain,,\n'),
        ("a.tsv", "text\tlabel\tid\ngood, very\t1\t1\nbad\tNeg\t8\n\t\t\nplain\t\t7\n"),
        ("a.jsonl", "\n\n".join(map(json.dumps, [*OBJECTS, {"text": "plain", "id": 7, "label": None}]))),
        ("lines.json", "\n".join(map(json.dumps, [*OBJECTS, {"text": "plain", "id": "7"}]))),
        ("array.json", json.dumps([*OBJECTS, {"text": "plain", "id": "7"}], indent=1)),
        ("pandas.jsonl", lines('{"text":"good, very","label":1.0,"id":1.0}', '{"text":"bad","label":"Neg","id":"8"}',
                               '{"text":"plain","label":null,"id":7.0}')),
        ("capitals.ndjson", lines('{"Text":"good, very","Label":1,"ID":1}', '{"TEXT":"bad","label":"Neg","id":8}',
                                  '{"text":"plain","id":7}')),
    ],
)  # fmt: skip
def test_formats_agree(tmp_path: Path, name: str, content: bytes | str) -> None:
    """The same texts, labels and ids come out of every format with fields, however it is written and packed."""
    assert texts(written(tmp_path / name, content)) == [
        Sample("good, very", "1", "1"),
        Sample("bad", "Neg", "8"),
        Sample("plain", None, "7"),
    ]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6)


def csv_file(rows: Sequence[Sequence[str]], delimiter: str, line_end: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


@settings(deadline=None)
@given(
    ROWS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    line_end: str,
    encoding: str,
) -> None:
    """What Python's own writers of CSV and JSON have written comes back, in every dialect, encoding and packing."""
    stripped = [tuple(cell.strip() or None for cell in row) for row in rows]
    expected = [Sample(text, label, own) for text, label, own in stripped if text]
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    folder = tmp_path_factory.mktemp("files")
    table = csv_file(rows, delimiter, line_end).encode(encoding)
    json_lines = line_end.join(map(json.dumps, objects)).encode(encoding)
    written(folder / "a.csv", table)
    written(folder / "a.csv.gz", gzip.compress(table))
    written(folder / "a.jsonl", json_lines)
    written(folder / "a.json", json.dumps(objects, ensure_ascii=False, indent=2).encode(encoding))
    for path in folder.iterdir():
        if not expected:
            assert "there is no text in it" in refusal_of(path)
            continue
        found = texts(path)
        assert [one._replace(id=None) for one in found] == [one._replace(id=None) for one in expected]
        assert [one.id for one in found if not one.id or not one.id.startswith("producer/")] == [
            one.id for one in expected if one.id and not one.id.startswith("producer/")
        ]


@settings(deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([".csv", ".tsv", ".json", ".jsonl", ".txt", ".csv.gz", ".xlsx"]),
    st.booleans(),
)
def test_no_bytes_end_in_anything_but_texts_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, has_labels: bool
) -> None:
    """Any bytes under any name are texts, or are refused by the file's name."""
    path = written(tmp_path_factory.mktemp("bytes") / f"a{suffix}", content)
    refusal = str(path)
    try:
        corpus = Corpus.of_labels(path) if has_labels else Corpus.of_texts(path, LIMIT_BYTES)
        for entry in corpus.entries():
            (entry.text or "").encode()
    except ConfigurationError as refused:
        refusal = str(refused)
    assert refusal.startswith(str(path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["text", "Text", "id", "LABEL", "source", ""]), VALUES), min_size=1))
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, object]]
) -> None:
    """Whatever values JSON has: a text that is read is a string or a number of the file, and all else is refused."""
    path = written(tmp_path_factory.mktemp("json") / "a.jsonl", lines(*map(json.dumps, objects)))
    try:
        found = [one.text for one in texts(path)]
    except ConfigurationError as refused:
        found = []
        event(str(refused).removeprefix(str(path)))
    given_texts = [value for one in objects for key, value in one.items() if key.lower() == "text"]
    strings = {value.strip() for value in given_texts if isinstance(value, str)}
    numbers = {float(value) for value in given_texts if isinstance(value, int | float)}
    assert all(text in strings or float(text) in numbers for text in found)


def test_one_text_a_line(tmp_path: Path) -> None:
    """A .txt file has one text a line; blank lines, line ends and a byte order mark are dropped."""
    content = b'\xef\xbb\xbfone "quoted, text"\r\n\n   \nzwei W\xc3\xb6rter'

    assert [one.text for one in texts(written(tmp_path / "texts.txt", content))] == [
        'one "quoted, text"',
        "zwei Wörter",
    ]


def test_csv_text_over_several_lines(tmp_path: Path) -> None:
    """A quoted text keeps its line breaks, and later errors name the right line."""
    path = written(tmp_path / "a.csv", 'text,label\n"first\nsecond",1\none,two,three\n')

    assert "line 4: 3 columns, the header has 2" in refusal_of(path)
    assert texts(written(path, 'text,label\n"first\nsecond",1\n'))[0].text == "first\nsecond"


def test_tsv_quotes_are_text(tmp_path: Path) -> None:
    """In a .tsv file a quotation mark is a character like any other."""
    path = written(tmp_path / "a.tsv", 'sentence\tlabel\n"begins and never ends\t1\n')

    assert texts(path)[0].text == '"begins and never ends'


def test_one_file_serves_texts_and_labels(tmp_path: Path) -> None:
    """A row's id is its own, or made of all texts and the row's place: labels added later find the same ids."""
    before = written(tmp_path / "texts.txt", "good\nbad\ngood\n")
    after = written(tmp_path / "labelled.csv", "label,text,note\n1,good,x\n,bad,\n1.0,good,y\n")
    other = written(tmp_path / "other.txt", "good\nbad\ngood\nmore\n")

    ids = [one.id for one in texts(before)]
    assert len(set(ids)) == 3
    assert ids == [one.id for one in texts(after)]
    assert list(Corpus.of_labels(after).feedback()) == [
        Feedback(id=ids[0] or "", label="1"),
        Feedback(id=ids[2] or "", label="1.0"),
    ]
    assert not set(ids) & {one.id for one in texts(other)}


def test_labels_stop_no_texts(tmp_path: Path) -> None:
    """Whoever sends texts needs no label: whatever stands in that column, the texts are sent."""
    odd = [True, {"x": 1}, "x" * 500]
    content = lines(*(json.dumps({"text": text, "label": label}) for text, label in zip("abc", odd, strict=True)))
    corpus = Corpus.of_texts(written(tmp_path / "a.jsonl", content), LIMIT_BYTES)

    assert [one.text for one in corpus.samples()] == ["a", "b", "c"]


def test_rows_without_a_text_are_counted(tmp_path: Path) -> None:
    """They are left out, and whoever publishes can say how many there were."""
    corpus = Corpus.of_texts(written(tmp_path / "a.jsonl", '{"text":" "}\n{"text":"a"}\n{"label":1}\n'), LIMIT_BYTES)

    assert (corpus.texts, corpus.without_text) == (1, 2)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"user,body\nx,y\n", "name a column text or sentence or review or content; there are: user, body"),
        ("a.csv", b"", "there are: nothing"),
        ("a.csv", b"overall,reviewText\n5,fine\n", "if reviewtext is it, rename it to text"),
        ("a.csv", f"0,{SECRET}\n4,fine\n".encode(), "it seems to be no header: add one above it"),
        ("a.csv", f"text,label\nfine,1\n{SECRET}\n".encode(), "line 3: 1 columns, the header has 2"),
        ("a.csv", f"text,label\n{SECRET}, more,1\n".encode(), "text that holds ',' must stand in quotation marks"),
        ("a.csv", f'text,label\n"{SECRET}" x,1\n'.encode(), "line 2: text after a closing quotation mark"),
        ("a.csv", f'text,label\n"{SECRET} \\"x\\"",1\n'.encode(), "line 2: a quotation mark inside a quoted text"),
        ("a.csv", f'text,label\nfine,1\n"{SECRET},1\n\nfine,1\n'.encode(), "line 3: a quotation mark is opened here"),
        ("a.csv", f"id,text\n{'x' * 257},{SECRET}\n".encode(), "line 2: id is longer than 256"),
        ("a.csv", "text,label\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a.tsv", b"text,label\nfine,1\n", "its columns are parted by ',', not by tabs; name it .csv"),
        ("a.csv", b"PK\x03\x04...", "zip archive, as Excel's .xlsx is; save it as CSV"),
        ("a.csv.gz", gzip.compress(b"text\n" + SECRET.encode() * 9)[:-9], "damaged gzip data"),
        ("a.csv", b"text,label\n", "there is no text in it"),
        ("a.jsonl", f'{{"text": "fine"}}\n["{SECRET}"]\n'.encode(), "line 2: not a JSON object"),
        ("a.jsonl", f'{{"text": "{SECRET}\\ud800"}}\n'.encode(), "line 1: not a JSON object"),
        ("a.jsonl", f'{{"text": ["{SECRET}"]}}\n'.encode(), "line 1: text is neither a string"),
        ("a.jsonl", b'{"text": "fine", "id": true}\n', "line 1: id is neither a string"),
        (
            "a.jsonl",
            b'{"reviewText": "fine"}\n',
            "must have a key text or sentence or review or content; there are: review",
        ),
        ("a.jsonl", f'{{"{SECRET} as a key of many words": "fine"}}\n'.encode(), "there are: nothing"),
        ("a.csv", b'sep="\ntext"label\nfine"1\n', "name a column text"),
        ("a.json", f'[{{"text": "{SECRET}"}}, {{]'.encode(), "not a JSON array"),
        ("a.json", f'[{{"text": "{SECRET}"}}, 7]'.encode(), "item 2: not a JSON object"),
        ("a.json", b'{\n  "text": "fine"\n}', "line 1: not a JSON object; a JSON file has one object a line"),
        ("a.txt", f"fine\n{SECRET} \xff\n".encode("latin-1"), "line 2: not UTF-8; if it was written on Windows: iconv"),
        ("a.txt", f"{'x' * 1_100_000}\n".encode(), "line 1: a record of 1100514 bytes; the limit is 1048588"),
        ("a.txt", b'{"text": "fine"}\n', "line 1: JSON, not a text; give it as --file NAME.jsonl"),
        ("a.txt", b"id,text,label\n", "line 1: the header of a table"),
        ("a.txt", b"\n \n", "there is no text in it"),
        ("a.xml", b"<text>fine</text>", ".xml is none of them"),
    ],
)
def test_broken_file(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    """A broken file is refused as a whole, with its name, the place, the likely cause, and without its content."""
    path = written(tmp_path / name, content)
    refusal = refusal_of(path)

    assert refusal.startswith(str(path))
    assert complaint in refusal
    assert SECRET not in refusal


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line, a cell or an array that does not end is refused before it fills the memory."""
    for module in (decoding, rows):
        monkeypatch.setattr(module, "MAX_HELD_CHARS", 1000)
    assert "line 2: longer than 1000 characters" in refusal_of(written(tmp_path / "a.txt", "a\n" + "x" * 1001))
    cell = "text\n" + '"never closed\n' + "more\n" * 300
    assert "line 2: a quotation mark is opened here and never closed" in refusal_of(written(tmp_path / "a.csv", cell))
    array = json.dumps([{"text": "x"}] * 200, indent=1)
    assert "jq -c '.[]'" in refusal_of(written(tmp_path / "a.json", array))


def test_missing_file_and_directory(tmp_path: Path) -> None:
    """What is no file is refused by name; a pipe, which cannot be read twice, with what to do."""
    assert "none.csv: No such file" in refusal_of(tmp_path / "none.csv")
    assert "no file that can be read twice" in refusal_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "lines of text can go to standard input" in refusal_of(tmp_path / "pipe")


@pytest.mark.parametrize(("text", "what"), [(" ", "empty"), ("x" * 2_000_000, "a record of")])
def test_broken_argument(text: str, what: str) -> None:
    """An argument that cannot be sent is refused by its number, before the ones before it are sent."""
    with pytest.raises(ConfigurationError, match=f"arguments, text 2: {what}"):
        arguments(["fine", text], LIMIT_BYTES)


def test_bundled_sample() -> None:
    """The sample that comes along has 2,000 texts, most of them labelled, in a form that can be published as it is."""
    samples = bundled()

    assert len(samples) == 2000
    labels = [sample.label for sample in samples]
    assert set(labels) == {"POSITIVE", "NEGATIVE", None}
    assert min(labels.count("NEGATIVE"), labels.count(None)) > 400
    assert not any("&amp;" in sample.text or "\t" in sample.text for sample in samples)
    assert not any(sample.id for sample in samples)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "source,label,id\nanna,1,producer/a\n,mixed,b\n,,c\n"),
        ("l.tsv", "id\tsentiment\tsource\nproducer/a\t1\tanna\nb\tmixed\t\nc\t\t\n"),
        ("l.ndjson", '{"id": "producer/a", "label": 1, "source": "anna"}\n{"id": "b", "label": "mixed"}\n{"id":"c"}'),
    ],
)
def test_feedback(tmp_path: Path, name: str, content: str) -> None:
    """Labels by message id come out of every format with fields; rows without one are counted."""
    corpus = Corpus.of_labels(written(tmp_path / name, content))

    assert list(corpus.feedback()) == [
        Feedback(id="producer/a", label="1", source="anna"),
        Feedback(id="b", label="mixed"),
    ]
    assert (corpus.labels, corpus.without_label) == ({"1": 1, "mixed": 1}, 1)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("l.csv", "id,text\na,b\n", "must name a column label or sentiment; there are: id, text"),
        ("l.csv", "label,note\na,b\n", "must name a column id or text or sentence"),
        ("l.csv", "id,label\na,\n", "there is no label in it"),
        ("l.jsonl", '{"label": "1"}\n{"label": 1, "id": 1}', "line 1: a label without an id"),
        ("l.jsonl", f'{{"label": "1", "id": "{"x" * 257}"}}', "line 1: id is longer than 256 characters"),
        ("l.csv", f"id,label\na,1\nb,{'x' * 129}\n", "line 3: label is longer than 128"),
        ("l.txt", "a 1\n", "labels are read from .csv, .tsv, .json, .jsonl, .ndjson"),
        ("l.csv", "id,label\n" + "".join(f"{n},{n}\n" for n in range(2000)), "more than 1000 different labels"),
    ],
)
def test_broken_feedback(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    """Labels without an id, and files that cannot have both, are refused with the place."""
    path = written(tmp_path / name, content)

    with pytest.raises(ConfigurationError) as refused:
        _ = Corpus.of_labels(path).labels

    assert complaint in str(refused.value)
