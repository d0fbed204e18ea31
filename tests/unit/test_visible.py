"""What the outputs show, where others write to them as well."""

import pytest
from aiokafka.structs import TopicPartition

from streamgauge.settings import TopicSettings
from tests.records import NEW, FakeRecord
from tests.unit.test_output import ORIGIN, scored, write
from worker.visible import _Found

TOPICS = TopicSettings()


@pytest.mark.parametrize("topic", [TOPICS.results, TOPICS.audit, TOPICS.metrics])
@pytest.mark.parametrize(
    "value", [None, b"\xff", b"{}", b'{"x":' + b"[" * 5000], ids=["null", "bytes", "empty", "deep"]
)
def test_what_only_looks_like_ours_is_passed(topic: str, value: bytes | None) -> None:
    """With the headers that ours have; JSON without end as well, which Python does not read."""
    found = _Found(TopicPartition("in", 0), NEW, "g", TOPICS)
    found.add(FakeRecord(value, topic=topic, headers=[("ce_source", b"/streamgauge/g"), ("ce_id", b"in-0-7")]))
    assert (found.shown, found.measured) == ({}, [])


@pytest.mark.parametrize("seen", [{TOPICS.results}, {TOPICS.audit}, {TOPICS.results, TOPICS.audit}])
def test_a_result_and_its_audit_are_one_prediction(seen: set[str]) -> None:
    """Seen in one of them only, it is the record for the other, whichever is read first."""
    written = [record for record in write([scored(7, 0.75)], audit_share=1) if record.topic in seen]
    for order in (written, written[::-1]):
        found = _Found(TopicPartition("sentiment.input", 0), NEW, ORIGIN.group, TOPICS)
        for record in order:
            found.add(FakeRecord(record.value, 0, record.key, record.headers, topic=record.topic))
        [(offset, shown)] = found.shown.items()
        assert (offset, shown.prediction and shown.prediction.id) == (7, "id-7")
        assert (shown.at_ms is not None) == (TOPICS.results in seen)
        assert (shown.unpaired.topic if shown.unpaired else None) == (None if len(seen) > 1 else min(seen))


def test_a_result_that_is_not_in_the_audit_lacks_nothing() -> None:
    """Whatever share this worker has now: the result says what it was when it was written."""
    [record, _event] = write([scored(7, 0.75)])
    found = _Found(TopicPartition("sentiment.input", 0), NEW, ORIGIN.group, TOPICS)
    found.add(FakeRecord(record.value, 0, record.key, record.headers, topic=record.topic))
    assert found.shown[7].unpaired is None
