"""What a committed offset tells travels in its metadata, and survives all who write it."""

import msgspec
import pytest
from aiokafka.structs import OffsetAndMetadata
from hypothesis import given
from hypothesis import strategies as st

from worker.progress import Progress, Stretch, progress_of, skips_of, with_skips
from worker.skip import MAX_SKIPS

OFFSETS = st.integers(0, 2**63 - 1)
SKIPS = st.frozensets(OFFSETS, max_size=MAX_SKIPS)
TOPICS = ("sentiment.results", "sentiment.dead-letter", "sentiment.metrics", "sentiment.audit")
LONG_ID = "f" * 36
PROGRESS = Progress(
    input_id=LONG_ID, first=10, next=20, outputs={topic: Stretch(LONG_ID, 100, 5) for topic in TOPICS}, skips=(15, 25)
)


@given(SKIPS, OFFSETS)
def test_skips_ahead_survive_a_commit(skips: frozenset[int], next_offset: int) -> None:
    """A commit carries the skips that are not passed, in what a broker takes as metadata."""
    ahead = {offset for offset in skips if offset >= next_offset}
    set_by_hand = with_skips(OffsetAndMetadata(next_offset, ""), skips)
    ours = with_skips(Progress(input_id="", first=0, next=next_offset, outputs={}).committed(), skips)
    for committed in (set_by_hand, ours):
        assert committed.offset == next_offset
        assert skips_of(committed) == ahead
        assert len(committed.metadata) <= 4096


def test_progress_is_read_as_it_was_committed() -> None:
    """With the longest topic names and as many skips as there may be it still fits into what a broker takes."""
    assert progress_of(PROGRESS.committed()) == PROGRESS
    names = ["x" * 245 + f"{number:04}" for number in range(4)]
    largest = Progress(
        input_id=LONG_ID,
        first=2**63 - 1,
        next=2**63 - 1,
        outputs={name: Stretch(LONG_ID, 2**63 - 1, 2**31) for name in names},
        skips=(2**63 - 1,) * MAX_SKIPS,
    )
    assert len(largest.committed().metadata) <= 4096


@pytest.mark.parametrize("metadata", ["", "somebody else's", "skip:", "skip:x,-1", "{}", "[1]", '{"input_id": 1}'])
def test_other_metadata_tells_nothing(metadata: str) -> None:
    """What another tool wrote is ignored."""
    committed = OffsetAndMetadata(5, metadata)
    assert (progress_of(committed), skips_of(committed)) == (None, frozenset())


def test_an_offset_that_somebody_moved_is_not_ours() -> None:
    """A tool that sets another offset and keeps the metadata has moved it all the same."""
    assert progress_of(OffsetAndMetadata(19, PROGRESS.committed().metadata)) is None


def test_a_transaction_leaves_behind_where_it_stands() -> None:
    """Where it wrote, and how much; where nobody tells, what is ours stands behind what was.

    Where it wrote nothing, it has left nothing; what was written before may still have to be seen.
    """
    sent = {TOPICS[0]: (200, 7), TOPICS[1]: (-1, 2)}
    after = PROGRESS.after(20, 30, sent)
    assert (after.first, after.next, after.skips) == (20, 30, (25,))
    assert after.outputs == {
        TOPICS[0]: Stretch(LONG_ID, 200, 7),
        TOPICS[1]: Stretch(LONG_ID, 105, 2),
        TOPICS[2]: Stretch(LONG_ID, 100, 0),
        TOPICS[3]: Stretch(LONG_ID, 100, 0),
    }


@pytest.mark.parametrize(
    "metadata",
    [
        '{"x":' + "[" * 4000,
        '{"input_id":"i","first":-1,"next":20,"outputs":{}}',
        '{"input_id":"i","first":21,"next":20,"outputs":{}}',
    ],
    ids=["nested without end", "negative", "first after next"],
)
def test_what_no_worker_commits_is_nobodys(metadata: str) -> None:
    """Nobody could read on from there."""
    assert progress_of(OffsetAndMetadata(20, metadata)) is None
    assert skips_of(OffsetAndMetadata(20, metadata)) == frozenset()


def test_of_an_output_that_it_does_not_know_nothing_is_missing() -> None:
    """Earlier versions wrote to fewer topics, and a topic may have been made anew: it is read from its beginning."""
    earlier = msgspec.structs.replace(PROGRESS, outputs={topic: PROGRESS.outputs[topic] for topic in TOPICS[:3]})
    here = earlier.on(dict.fromkeys(TOPICS, LONG_ID) | {TOPICS[1]: "another id"})
    assert here.outputs == {
        TOPICS[0]: Stretch(LONG_ID, 100, 5),
        TOPICS[1]: Stretch("another id", 0, 0),
        TOPICS[2]: Stretch(LONG_ID, 100, 5),
        TOPICS[3]: Stretch(LONG_ID, 0, 0),
    }
    after = here.after(20, 30, dict.fromkeys(TOPICS, (200, 7)))
    assert after.outputs == {topic: Stretch(stretch.topic_id, 200, 7) for topic, stretch in here.outputs.items()}
