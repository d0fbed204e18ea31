"""What a refusal adds to a record's headers, and what goes back with it: its id stays, and it does not grow."""

from hypothesis import given
from hypothesis import strategies as st

from streamgauge.events import Reason
from tests.records import FakeRecord
from worker.dead_letters import ADDED, REPLAYED_HEADER, headers_back, refusal_headers, was_replayed
from worker.intake import decode
from worker.outcomes import Accepted, Headers, Refused

names = st.sampled_from([*ADDED, "shop", "ce_id", "ce_source"])
headers = st.lists(st.tuples(names, st.none() | st.sampled_from([b"", b"7", b"x"])), max_size=8)


def id_of(record: FakeRecord) -> str:
    decoded = decode(record, max_text_bytes=100)
    assert isinstance(decoded, Accepted)
    return decoded.message_id


def refused_and_back(record: FakeRecord, offset: int) -> FakeRecord:
    """The record at the offset that it has after its replay."""
    added = refusal_headers(Refused(record, Reason.INFERENCE_FAILED, "no"), "shop", "worker-1")
    return FakeRecord(record.value, offset, headers=headers_back([*record.headers, *added], "now"))


@given(headers)
def test_a_record_keeps_its_id_and_its_headers_and_does_not_grow(own: Headers) -> None:
    """Also when its own headers are error headers, whole or in part: Kafka Connect's dead letters are input too."""
    record = FakeRecord(headers=own, offset=3)
    once = refused_and_back(record, 10)
    twice = refused_and_back(once, 20)
    assert id_of(record) == id_of(once) == id_of(twice)
    assert list(twice.headers)[: len(once.headers)] == list(once.headers)
    assert [header for header in once.headers if header[0] not in ADDED] == [
        *(header for header in own if header[0] not in ADDED),
        (REPLAYED_HEADER, b"now"),
    ]
    assert len(once.headers) <= len(own) + 4
    assert (was_replayed(own), was_replayed(once.headers)) == (False, True)
