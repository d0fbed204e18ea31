"""What is still to be labelled: what the listener has no judge for, by the oracle of its own numbers."""

from hypothesis import given
from hypothesis import strategies as st

from feedback_listener.join import LABEL_LEAD_MS
from streamgauge.commands.audit_queue import Unlabelled
from streamgauge.events import Feedback, ModelRef, Position, encode
from streamgauge.unpacking import Unread
from tests.audited import MODEL, event
from tests.records import FakeRecord
from tests.truth import Labelled, Scored, numbers

NOW_MS = 1_800_000_000_000
WINDOW_MS = 10 * LABEL_LEAD_MS
IDS = st.sampled_from(["a", "b", "c"])
AGES_MS = st.sampled_from([0, 1, LABEL_LEAD_MS - 1, LABEL_LEAD_MS, LABEL_LEAD_MS + 1, 2 * LABEL_LEAD_MS])
OTHER = ModelRef(name="n", version="2", digest="sha256:1")
CLASSES = {MODEL: ("NEGATIVE", "POSITIVE"), OTHER: ("POSITIVE", "NEUTRAL")}
PREDICTIONS = st.lists(st.tuples(IDS, AGES_MS, st.sampled_from([MODEL, OTHER])), max_size=6)
LABELS = st.lists(st.tuples(IDS, AGES_MS, st.sampled_from(["NEGATIVE", "POSITIVE", "NEUTRAL", "odd"])), max_size=6)


def position(offset: int) -> Position:
    return Position(topic="sentiment.input", partition=0, offset=offset, timestamp_ms=NOW_MS)


def predicted(message_id: str, offset: int = 0, age_ms: int = 0, model: ModelRef = MODEL) -> FakeRecord:
    value = event(message_id, position(offset), CLASSES[model], model)
    return FakeRecord(value, offset, timestamp=NOW_MS - age_ms)


def labelled(message_id: str, name: str, age_ms: int = 0) -> FakeRecord:
    return FakeRecord(encode(Feedback(id=message_id, label=name)), timestamp=NOW_MS - age_ms)


@given(PREDICTIONS, LABELS)
def test_to_be_labelled_is_what_has_no_judge(
    predictions: list[tuple[str, int, ModelRef]], labels: list[tuple[str, int, str]]
) -> None:
    """Of each id the oldest one, whatever order labels come in; the listener's oracle says which have a judge."""
    found = Unlabelled()
    expected: dict[str, tuple[int, int]] = {}
    for offset, (message_id, age_ms, model) in enumerate(predictions):
        found.add_prediction(predicted(message_id, offset, age_ms, model))
        scored = Scored(message_id, 0, offset, NOW_MS - age_ms, "POSITIVE", dict.fromkeys(CLASSES[model], 0.5))
        every = [Labelled(own, 0, number, NOW_MS - ms, name) for number, (own, ms, name) in enumerate(labels)]
        if not any(key[0] == "judged_predictions" for key in numbers([scored, *every], NOW_MS, WINDOW_MS)):
            age = scored.at_ms, offset
            expected[message_id] = min(age, expected.get(message_id, age))
    for message_id, age_ms, name in labels:
        found.add_label(labelled(message_id, name, age_ms))
    oldest = [(one.at_ms, one.source.offset) for one in found.oldest_first()]
    assert oldest == sorted(expected.values())


def test_nothing_of_the_answer_is_kept() -> None:
    """Classes in the model's order, where the text stands, and no more: no label and no score."""
    found = Unlabelled()
    found.add_prediction(predicted("a", 7, 1000))
    [one] = found.oldest_first()
    assert (one.id, one.at_ms, one.model, one.classes) == ("a", NOW_MS - 1000, MODEL, CLASSES[MODEL])
    assert one.source == position(7)
    assert not {"label", "score", "scores"} & {*one.__struct_fields__}


def test_what_is_no_event_is_left_out() -> None:
    """As the listener does."""
    found = Unlabelled()
    found.add_prediction(predicted("a"))
    for value in (None, Unread(), b"\xff", b"{}", b'{"id":"a","label":"x","scores":{"x":0.5},"model":{}}'):
        found.add_prediction(FakeRecord(value))
        found.add_label(FakeRecord(value))
    # It is a prediction to the listener, but does not say where its text stands.
    found.add_prediction(FakeRecord(b'{"id":"b","label":"x","scores":{"x":1},"model":{"name":"m","version":"1"}}'))
    assert [one.id for one in found.oldest_first()] == ["a"]
