"""`streamgauge audit` as it is typed: at a terminal, one key a text; elsewhere, a JSON object a line."""

import json
import os
import signal

import pytest

from streamgauge.events import decode_feedback
from tests.audited import CLASSES, delete_before, label, publish_audited
from tests.cluster import Kafka, Stream
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, environment_of, run
from tests.terminal import at_terminal
from tests.unit.test_terminal import EVIL

CHANCE = ("0.75", "0.25")
"""What the model says, wherever it would be shown."""


async def given_labels(stream: Stream) -> list[tuple[str, str, str | None]]:
    """Id, class and source of all labels, in the order in which they came."""
    records = sorted(await stream.read([stream.topics.feedback]), key=lambda record: (record.timestamp, record.offset))
    return [(one.id, one.label, one.source) for one in (decode_feedback(record.value) for record in records)]


async def audited(kafka: Kafka) -> tuple[Stream, dict[str, str]]:
    """Five texts, of which the first is gone and the last has a label; and the environment of a command."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    texts = [b"gone", EVIL.encode(), b'{"text": "two\\nlines"}', b"the third", b"labelled"]
    sources = await publish_audited(stream, [(f"id-{number}", text) for number, text in enumerate(texts)])
    await label(stream, ("id-4", "POSITIVE"))
    await delete_before(stream, sources[1])
    return stream, environment_of(stream)


async def test_a_line_a_prediction(kafka: Kafka) -> None:
    """With the text or without; nothing of what the model says; `feedback` takes the label, and the line is gone."""
    stream, settings = await audited(kafka)
    shown = run("audit", **settings)
    assert shown.returncode == 0
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(line["id"], line["text"]) for line in lines] == [
        ("id-0", None),
        ("id-1", EVIL),
        ("id-2", "two\nlines"),
        ("id-3", "the third"),
    ]
    assert [*lines[1]] == ["id", "text", "classes", "at", "source", "model"]
    assert lines[1]["classes"] == [*CLASSES]
    assert lines[1]["source"] == {"topic": stream.topics.input, "partition": 0, "offset": 1}
    assert lines[1]["model"] == {"name": "m", "version": "1", "digest": "sha256:0"}
    assert not any(part in shown.stdout for part in CHANCE)
    assert shown.stdout.replace("\n", "").isprintable()
    said = "listed with a text: 3; still to be labelled: 3; the text is not retained any more: 1\n"
    assert shown.stderr == said

    limited = run("audit", "--json", "--limit", "1", **settings)
    assert [json.loads(line)["id"] for line in limited.stdout.splitlines()] == ["id-0", "id-1"]
    assert run("feedback", "id-1", "NEGATIVE", **settings).returncode == 0
    assert "id-1" not in run("audit", "--json", **settings).stdout


async def test_one_key_a_text(kafka: Kafka) -> None:
    """Skip, undo and a correction; each label is delivered before the next text is shown, with who gave it."""
    stream, settings = await audited(kafka)
    with at_terminal(["audit", "--source", "anna"], QUIET_ENVIRONMENT | settings) as seat:
        screen = seat.until("> ")
        assert r"evil[/nope]\x1b[2J\x07" in screen
        assert "3 left" in screen
        assert "1 NEGATIVE   2 POSITIVE" in screen
        seat.type("2")
        screen += seat.until("> ")
        assert await given_labels(stream) == [("id-4", "POSITIVE", "a test"), ("id-1", "POSITIVE", "anna")]
        assert "2 left" in screen
        seat.type("u")
        assert "evil" in seat.until("> ")
        seat.type("1")
        seat.until("> ")
        seat.type("x")
        assert "a number from 1 to 2, or s, u, q" in seat.until("> ")
        seat.type("s")
        assert "the third" in seat.until("> ")
        seat.type("2")
        assert seat.ended() == (0, "labelled now: 2; still to be labelled: 1; the text is not retained any more: 1\n")
    assert not any(part in screen for part in CHANCE)
    assert (await given_labels(stream))[1:] == [
        ("id-1", "POSITIVE", "anna"),
        ("id-1", "NEGATIVE", "anna"),
        ("id-3", "POSITIVE", "anna"),
    ]
    left = run("audit", **settings).stdout.splitlines()
    assert [json.loads(line)["id"] for line in left] == ["id-0", "id-2"]


@pytest.mark.parametrize("end", ["q", "\x03", "\x04"])
async def test_each_way_to_end(kafka: Kafka, end: str) -> None:
    """The key, Ctrl-C and Ctrl-D are all an ordinary end. Only so many are asked for as is said."""
    _stream, settings = await audited(kafka)
    with at_terminal(["audit", "--limit", "2"], QUIET_ENVIRONMENT | settings) as seat:
        assert "2 left" in seat.until("> ")
        seat.type(end)
        assert seat.ended() == (0, "labelled now: 0; still to be labelled: 3; the text is not retained any more: 1\n")


async def test_a_signal_leaves_the_terminal_as_it_was(kafka: Kafka) -> None:
    """SIGTERM as Ctrl-C; lines are lines again, and what is typed is seen."""
    _stream, settings = await audited(kafka)
    with at_terminal(["audit"], QUIET_ENVIRONMENT | settings) as seat:
        before = seat.attributes()
        seat.until("> ")
        assert seat.attributes() != before
        os.kill(seat.process.pid, signal.SIGTERM)
        assert seat.ended()[0] == 0
        assert seat.attributes() == before


async def test_many_classes_are_typed_as_numbers(kafka: Kafka) -> None:
    """With Enter, as a number may have two digits."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    classes = [f"class {number}" for number in range(1, 29)]
    await publish_audited(stream, [("id-0", b"a text")], classes)
    with at_terminal(["audit"], QUIET_ENVIRONMENT | environment_of(stream)) as seat:
        seat.until("> ")
        seat.type("28\n")
        assert seat.ended() == (0, "labelled now: 1; still to be labelled: 0\n")
    assert await given_labels(stream) == [("id-0", "class 28", "audit")]


async def test_what_cannot_begin(kafka: Kafka) -> None:
    """A topic that is not there, and a name that is none, are told at once."""
    absent = run(
        "audit",
        STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        STREAMGAUGE_TOPIC_PREFIX="no-such",
    )
    assert absent.returncode == 2
    assert "topic no-such.audit does not exist" in absent.stderr
    assert "run: streamgauge topics create" in absent.stderr
    nobody = run("audit", "--source", "")
    assert (nobody.returncode, "--source: " in nobody.stderr) == (2, True)
