"""No input of bytes gives a traceback: arguments, settings, and what strangers write into the topics."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import click
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.commands.cli import app, exit_code
from streamgauge.commands.reading import moment_ms, seconds
from streamgauge.commands.stats import Stats, add_all
from streamgauge.commands.tail import line, lines_of
from streamgauge.errors import ConfigurationError
from streamgauge.events import Histogram, ModelRef, TransactionMeasured, encode
from streamgauge.settings import KafkaSettings, TopicSettings, load
from tests.records import FakeRecord

NO_BROKER = {
    "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S": "0.001",
    "STREAMGAUGE_WORKER_HTTP_PORT": "1",
    "STREAMGAUGE_LISTENER_HTTP_PORT": "1",
}
NOT_HERE = {"broker", "demo", "export", "inspect", "listen", "worker"}
"""They start processes, or load a model; what they are told are settings, which are checked below."""
TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=30),
    st.sampled_from(["", "\udce9", "\x1b[2J", "\u202e", "-1", "9" * 5000, "nan", "1e999", "0001-01-01", "x:1:\u0663"]),
)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif name not in NOT_HERE:
            yield (*path, name), command


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with some of its options and arguments, each with any text as its value."""
    path, command = draw(st.sampled_from(list(commands(typer.main.get_command(app)))))
    line = list(path)
    for parameter in command.params:
        if parameter.name == "bootstrap_servers" or "--help" in parameter.opts or not draw(st.booleans()):
            continue
        if isinstance(parameter, click.Option) or parameter.param_type_name == "option":
            line.append(parameter.opts[0])
        if not getattr(parameter, "is_flag", False):
            line.append(draw(TEXTS))
    return line


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(command_lines())
def test_no_command_line_gives_a_traceback(command_line: list[str]) -> None:
    """It works, or ends with an error that says what is wrong: never with an error that nobody has foreseen."""
    with mock.patch.dict(os.environ, NO_BROKER):
        assert exit_code(command_line) in (0, 1, 2)


def test_an_argument_that_is_not_utf8_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """As the system gives it: each byte that is no text as a lone surrogate."""
    assert exit_code(["produce", os.fsdecode(b"caf\xe9")]) == 2
    assert capsys.readouterr().err == "error: argument 2 is not UTF-8\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode the environment in their own way")
def test_a_setting_that_is_not_utf8_is_named() -> None:
    """Its value is not shown: it may be a password."""
    with (
        mock.patch.dict(os.environ, {"STREAMGAUGE_KAFKA_PASSWORD": os.fsdecode(b"\xff")}),
        pytest.raises(ConfigurationError, match=r"^STREAMGAUGE_KAFKA_PASSWORD is not UTF-8$"),
    ):
        load(KafkaSettings)


@given(TEXTS)
def test_every_moment_is_one_or_is_refused(text: str) -> None:
    """A time that Kafka can be asked for, or an error that says how one is written."""
    for parse in (seconds, lambda given: moment_ms(given, 1_700_000_000_000)):
        with suppress(ConfigurationError):
            assert 0 <= parse(text) < 2**63


VALUES = st.one_of(
    st.none(), st.binary(max_size=60), st.sampled_from([b"{}", b"null", b"[" * 5000, b'{"id":"\\ud800"}'])
)


@given(VALUES, st.lists(st.tuples(st.sampled_from(["__connect.errors.topic", "x"]), st.none() | st.binary(max_size=9))))
def test_a_line_of_tail_can_be_anything(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    """What is no event of ours is said to be none; nothing steers the terminal."""
    record = FakeRecord(value, 5, b"\xff", tuple(headers))
    for what in ("results", "audit", "metrics", "dead-letters"):
        _topic, line_of = lines_of(what, TopicSettings(), with_values=True)
        assert line(record, line_of).isprintable()


@given(
    st.lists(VALUES, max_size=3),
    st.one_of(TEXTS, st.sampled_from(["9999-12-31T23:59:59-23:59", "0001-01-01T00:00", "2026-01-31T12:00Z"])),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)
def test_stats_count_what_is_ours_and_survive_the_rest(
    values: list[bytes | None], began_at: str, count: int, number: float
) -> None:
    """Events with any times and numbers, and anything else."""
    event = TransactionMeasured(
        worker="a",
        model=ModelRef(name="m", version="1", digest="d"),
        topic="t",
        partition=0,
        first_offset=0,
        last_offset=0,
        records=count,
        labels={"x": count},
        dead_letters={},
        truncated=0,
        tokens=count,
        padded_tokens=number,
        tokenize_s=number,
        queue_s=number,
        infer_s=number,
        latency=Histogram(edges=[0.1], counts=[count, count], sum=number, max=number),
        began_at=began_at.encode(errors="replace").decode(),
    )
    stats = Stats("time", 60)
    add_all(stats, [*values, encode(event)])
    stats.rows()
