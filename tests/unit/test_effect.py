"""What is said of a label, by the result of its id."""

import pytest

from producer.effect import Found, explained
from streamgauge.events import Feedback, ModelRef, Position, Prediction, Timings

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS
RESULT = Prediction(
    id="a",
    label="POSITIVE",
    score=0.977,
    scores={"NEGATIVE": 0.023, "POSITIVE": 0.977},
    model=ModelRef(name="m", version="1", digest="d"),
    timings=Timings(tokenize_s=0, queue_s=0, infer_s=0),
    source=Position(topic="t", partition=0, offset=0, timestamp_ms=0),
    tokens=3,
    truncated=False,
)


@pytest.mark.parametrize(
    ("label", "found", "said"),
    [
        ("POSITIVE", Found(RESULT, NOW_MS, is_all=False), "judged: the model said POSITIVE (0.977), and so was right"),
        ("NEGATIVE", Found(RESULT, NOW_MS, is_all=False), "judged: the model said POSITIVE (0.977), and so was wrong"),
        ("meh", Found(RESULT, NOW_MS, is_all=False), "meh is no class of m@1, which scored this text (NEGATIVE, POSI"),
        ("POSITIVE", Found(RESULT, NOW_MS - 8 * DAY_MS, is_all=False), "the result is older than 7 days: the label co"),
        (
            "POSITIVE",
            Found(None, 0, is_all=True),
            "no result has the id a yet; should one come within a day, the lab",
        ),
        ("POSITIVE", Found(None, 0, is_all=False), "the id a is not among the latest results; the label judges an old"),
    ],
)
def test_what_a_label_did(label: str, found: Found, said: str) -> None:
    """Right, wrong, no class, too late, too early, or not to be told."""
    assert explained(Feedback(id="a", label=label), found, NOW_MS, 7 * DAY_MS).startswith(said)
