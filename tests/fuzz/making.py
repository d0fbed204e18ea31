"""What strangers might send: bytes, texts, JSON of all kinds, headers, records, files. All follow from the dice."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from streamgauge.aiokafka_records import RawName
from tests.records import FakeRecord
from worker.outcomes import Headers

T = TypeVar("T")

Dice = random.Random

CORPUS = {path.name: path.read_bytes() for path in sorted((Path(__file__).parent / "corpus").iterdir())}
"""Files that real tools wrote and readers stumbled over."""
PIECES = [
    b"", b"\0", b" ", b"\n", b"\r", b"\x1b[2J", b"\x7f", b"word ", b"fine", b"a" * 600,
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80",
    *map(str.encode, ["\u202e", "\u2028", "\ufffd", "\U0010ffff", "e\u0301\u0301", "\U0001f469\u200d\U0001f4bb"]),
]  # fmt: skip
NUMBERS = [
    *b"0 -0 1 -1 0.5 1e999 -1e999 1e-999 NaN Infinity 9223372036854775807 9223372036854775808 1700000000000".split(),
    *b"-9223372036854775809 18446744073709551616 01 1. .5 0x1 1e5 1.0000000000000000000001".split(),
    b"1" + b"0" * 400,
    b"1" + b"0" * 5000,
]
ESCAPES = [*rb"\u0000 \ud800 \udc00 \ud83d\ude00 \ude00\ud83d \u \x \n \\ ".split(), b'\\"', b"\t"]
POSITION = {"topic": b'"in"', "partition": b"0", "offset": b"7", "timestamp_ms": b"1"}
MODEL = {"name": b'"m"', "version": b'"1"', "digest": b'"d"'}
TEXT = {"text": b'"a fine film"', "id": b'"own"', "metadata": b'{"shop": 7}'}


def object_of(fields: Mapping[str, bytes]) -> bytes:
    return b"{" + b", ".join(b'"%s": %s' % (name.encode(), value) for name, value in fields.items()) + b"}"


RESULT = {
    "id": b'"a"', "label": b'"POSITIVE"', "score": b"0.9", "scores": b'{"NEGATIVE": 0.1, "POSITIVE": 0.9}',
    "model": object_of(MODEL), "timings": b'{"tokenize_s": 0, "queue_s": 0, "infer_s": 0}', "tokens": b"3",
    "source": object_of(POSITION), "truncated": b"false", "schema": b"1", "metadata": b"null",
}  # fmt: skip
AUDITED = RESULT | {"audit": b"0.01"}
FEEDBACK = {"id": b'"a"', "label": b'"POSITIVE"', "source": b'"anna"', "at": b'"now"', "schema": b"1"}
MEASURED = {
    "records": b"2", "labels": b'{"POSITIVE": 2}', "dead_letters": b"{}", "truncated": b"0", "tokens": b"9",
    "padded_tokens": b"9", "tokenize_s": b"0.1", "queue_s": b"0.1", "infer_s": b"0.1", "worker": b'"w"',
    "latency": b'{"edges": [0.1, 1], "counts": [1, 1, 0], "sum": 0.3, "max": 0.2}', "model": object_of(MODEL),
    "topic": b'"in"', "partition": b"0", "first_offset": b"5", "last_offset": b"6", "models": b"[]",
    "began_at": b'"2026-01-31T12:00:00.000Z"',
}  # fmt: skip
PROGRESS = {"input_id": b'"i"', "first": b"5", "next": b"7", "outputs": b'{"out": ["o", 3, 2]}', "skips": b"[6]"}


def one_of(dice: Dice, *makers: Callable[[Dice], T]) -> T:
    return dice.choice(makers)(dice)


def some_bytes(dice: Dice) -> bytes:
    """Mostly short, sometimes longer than any limit."""
    if dice.random() < 0.5:
        return b"".join(dice.choices(PIECES, k=dice.randrange(6)))
    return dice.randbytes(dice.choice([0, 1, 2, 5, 20, 300]))


def text(dice: Dice) -> bytes:
    """UTF-8, of all planes."""
    planes = dice.choice([128, 0x800, 0xD800, 0x110000])
    chars = (chr(dice.randrange(planes)) for _ in range(dice.choice([1, 3, 30, 300])))
    return "".join(char for char in chars if not "\ud800" <= char <= "\udfff").encode()


def json_value(dice: Dice, depth: int = 3) -> bytes:
    """Any value, and what only looks like one."""
    kind = dice.randrange(8 if depth else 4)
    if kind == 0:
        return dice.choice(NUMBERS)
    if kind == 1:
        return dice.choice([b"null", b"true", b"false", b"", b"nul", b"[", b"{}", b"[]", b'""'])
    if kind in (2, 3):
        return b'"' + b"".join(dice.choices([*ESCAPES, *PIECES], k=dice.randrange(4))) + b'"'
    if kind in (4, 5):
        return b"[" + b",".join(json_value(dice, depth - 1) for _ in range(dice.randrange(4))) + b"]"
    if kind == 6:
        return object_of({f"k{n}": json_value(dice, depth - 1) for n in range(dice.randrange(4))})
    levels = dice.choice([10, 900, 1100, 5000, 20_000])
    return dice.choice([b"[" * levels, b"[" * levels + b"]" * levels, b'{"k":' * levels + b"0" + b"}" * levels])


def event(dice: Dice, fields: Mapping[str, bytes]) -> bytes:
    """An event of ours in which something is odd: a value, a field twice, missing or unknown, the bytes; or nothing."""
    pairs = list(fields.items())
    for _ in range(dice.randrange(3)):
        place = dice.randrange(len(pairs))
        change = dice.randrange(4)
        if change == 0:
            del pairs[place]
        elif change == 1:
            pairs.append((pairs[place][0], json_value(dice)))
        elif change == 2:
            pairs.append(("unknown", json_value(dice)))
        else:
            pairs[place] = pairs[place][0], json_value(dice)
        if not pairs:
            return b"{}"
    dice.shuffle(pairs)
    whole = b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in pairs) + b"}"
    return mutated(dice, whole) if dice.random() < 0.2 else whole


def mutated(dice: Dice, data: bytes) -> bytes:
    """A few bytes are others, more, fewer, or there twice."""
    found = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        begin = dice.randrange(len(found) + 1)
        end = min(len(found), begin + dice.choice([0, 1, 1, 2, 8, 100]))
        cut = bytes(found[begin:end])
        found[begin:end] = dice.choice([b"", some_bytes(dice), dice.randbytes(len(cut)), cut * 2])
    return bytes(found[: 2**17])


def record_value(dice: Dice, fields: Mapping[str, bytes]) -> bytes | None:
    """Of a record that should hold this event."""
    if dice.random() < 0.02:
        return None
    if dice.random() < 0.01:
        return text(dice) * 500
    return one_of(dice, lambda d: event(d, fields), lambda d: event(d, fields), some_bytes, text, json_value)


def header_name(dice: Dice, names: Sequence[str]) -> str:
    if dice.random() < 0.6:
        return dice.choice(names)
    raw = some_bytes(dice)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return RawName(raw)


def headers(dice: Dice, names: Sequence[str], values: Sequence[bytes]) -> list[tuple[str, bytes | None]]:
    """Known names and any, with known values and any, some of them twice."""
    count = dice.choice([0, 0, 1, 2, 5, len(names), 130])
    return [
        (header_name(dice, names), dice.choice([None, some_bytes(dice), dice.choice(values), dice.choice(values)]))
        for _ in range(count)
    ]


def record(dice: Dice, topic: str, value: bytes | None, its_headers: Headers) -> FakeRecord:
    """As it is polled."""
    key = dice.choice([None, b"", b"k", some_bytes(dice)])
    timestamp = dice.choice([-1, 0, 1_700_000_000_000, 2**63 - 1])
    return FakeRecord(value, dice.randrange(2**40), key, its_headers, topic, dice.randrange(3), timestamp)


def file_of_rows(dice: Dice) -> tuple[str, bytes]:
    """A name and what stands in the file: a table, lines of JSON, an array; packed or broken."""
    name, content = dice.choice([*CORPUS.items()])
    if dice.random() < 0.7:
        label_and_id = {"label": json_value(dice, 1), "id": json_value(dice, 1)}
        lines = [event(dice, {"text": b'"x"', **label_and_id}) for _ in range(3)]
        name, content = dice.choice(
            [
                ("x.csv", _table(dice, dice.choice([b",", b";"]))),
                ("x.tsv", _table(dice, b"\t")),
                ("x.jsonl", b"\n".join(lines)),
                ("x.json", b"[%s]" % b",".join(lines)),
                ("x.txt", text(dice)),
            ]
        )
    if dice.random() < 0.3:
        content = mutated(dice, content)
    if dice.random() < 0.1:
        name = dice.choice(["x", "x.csv", "x.tsv", "x.json", "x.jsonl.gz", "x.txt", "x.xlsx"])
    return name, content


def _table(dice: Dice, delimiter: bytes) -> bytes:
    cells = [b'"a ""fine"" film"', b"x", b"", b'"', b'"\n"', b"1.0", b"POSITIVE", b"a,b", some_bytes(dice), text(dice)]
    lines = [delimiter.join(dice.sample([b"text", b"label", b"id", b"source", b"other"], k=dice.choice([2, 3, 5])))]
    width = lines[0].count(delimiter) + 1
    for _ in range(dice.randrange(5)):
        lines.append(delimiter.join(dice.choices(cells, k=width if dice.random() < 0.95 else width + 1)))
    return dice.choice([b"\n", b"\r\n", b"\n", b"\r"]).join(lines)


def metadata(dice: Dice) -> str:
    """Of a committed offset; a broker takes 4,096 bytes and hands back Unicode."""
    skips = b"skip:6,7," + one_of(dice, some_bytes, text)
    value = dice.choice([event(dice, PROGRESS), event(dice, PROGRESS), skips, json_value(dice), text(dice)])
    return value.decode(errors="replace")[:4096]
