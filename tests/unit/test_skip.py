"""Skips travel in the metadata of committed offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.errors import ConfigurationError
from worker.skip import MAX_SKIPS, committed_with, parse_position, skips_of


@given(st.frozensets(st.integers(0, 2**63 - 1), max_size=MAX_SKIPS), st.integers(0, 2**63 - 1))
def test_skips_ahead_survive_a_commit(skips: frozenset[int], next_offset: int) -> None:
    """A commit carries the skips that are not passed, in what a broker takes as metadata."""
    committed = committed_with(next_offset, skips)
    assert committed.offset == next_offset
    assert skips_of(committed.metadata) == {offset for offset in skips if offset >= next_offset}
    assert len(committed.metadata) <= 4096


@pytest.mark.parametrize("metadata", ["", "somebody else's", "skip:", "skip:x,-1"])
def test_other_metadata_holds_no_skips(metadata: str) -> None:
    """What another tool wrote is ignored."""
    assert skips_of(metadata) == frozenset()


@pytest.mark.parametrize("text", ["in:1", "in:1:x", "other:1:2", "1:2", ""])
def test_a_position_is_checked(text: str) -> None:
    """A position of another form or topic is refused with the right form."""
    with pytest.raises(ConfigurationError, match="in:PARTITION:OFFSET"):
        parse_position(text, "in")
    assert parse_position("in:1:2", "in")[1] == 2
