"""A line for each record, and what must not be in it."""

import pytest

from streamgauge.commands.tail import dead_letter_line, line, lines_of, metric_line, result_line
from streamgauge.events import Reason
from streamgauge.terminal import harmless
from tests.records import FakeRecord
from tests.unit.test_output import ORIGIN, TOPICS, scored
from tests.unit.test_output import write as outputs
from worker.outcomes import Refused


def test_results_and_metrics_in_a_line() -> None:
    """Position, label, score and id of a result; what a transaction covered."""
    result, metric = outputs([scored(3, 0.75, truncated=True)])
    line = result_line(result.value or b"")
    assert all(part in line for part in ("0:3", "POSITIVE", "0.750", "25.0 ms", "3 tokens, truncated", "id-3"))
    line = metric_line(metric.value or b"")
    assert all(part in line for part in ("0:3-3", "1 records", "0 dead", ORIGIN.instance))
    assert (result.topic, metric.topic) == (TOPICS.results, TOPICS.metrics)


def test_what_is_in_the_audit_is_shown_as_its_result() -> None:
    """It is the same event."""
    result, audit, _metric = outputs([scored(3, 0.75)], audit_share=1)
    topic, line_of = lines_of("audit", TOPICS, with_values=False)
    assert (topic, line_of(audit)) == (audit.topic, result_line(result.value or b""))


def test_a_dead_letter_shows_its_bytes_only_when_asked() -> None:
    """Reason and origin always; key and value are users'."""
    record = FakeRecord(b"SECRET \xff\x1b[2J\n", 5, b"KEY")
    [letter, _metric] = outputs([Refused(record, Reason.NOT_UTF8, "not UTF-8 at byte 7")])
    line = dead_letter_line(letter, with_value=False)
    assert line == "sentiment.input:0:5  not_utf8  not UTF-8 at byte 7"
    shown = harmless(dead_letter_line(letter, with_value=True))
    assert shown == f"{line}  key=KEY value=SECRET \\xff\\x1b[2J\\x0a"


@pytest.mark.parametrize("what", ["results", "audit", "metrics"])
@pytest.mark.parametrize("value", [None, b"\xff", b'{"id": "\xed\xa0\x80"}', b'{"x":' + b"[" * 5000])
def test_what_is_no_event_is_named(what: str, value: bytes | None) -> None:
    """Whatever it is: also bytes that are no UTF-8, and JSON without end."""
    topic, line_of = lines_of(what, TOPICS, with_values=False)
    assert line(FakeRecord(value, 5, topic=topic), line_of) == f"{topic}-0@5 is no event of ours"
