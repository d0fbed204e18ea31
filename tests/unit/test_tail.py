"""A line for each record, and what must not be in it."""

from streamgauge.commands.tail import dead_letter_line, metric_line, result_line
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


def test_a_dead_letter_shows_its_bytes_only_when_asked() -> None:
    """Reason and origin always; key and value are users'."""
    record = FakeRecord(b"SECRET \xff\x1b[2J\n", 5, b"KEY")
    [letter, _metric] = outputs([Refused(record, Reason.NOT_UTF8, "not UTF-8 at byte 7")])
    line = dead_letter_line(letter, with_value=False)
    assert line == "sentiment.input:0:5  not_utf8  not UTF-8 at byte 7"
    shown = harmless(dead_letter_line(letter, with_value=True))
    assert shown == f"{line}  key=KEY value=SECRET \\xff\\x1b[2J\\x0a"
