"""Outcomes in any order leave in offset order, each once, with no gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.sequencer import Sequencer


class SequencerMachine(RuleBasedStateMachine):
    """Against a naive model: the list of fetched offsets, the set of finished ones, the list of taken ones."""

    def __init__(self) -> None:
        super().__init__()
        self.sequencer: Sequencer[str] = Sequencer()
        self.fetched: list[int] = []
        self.finished: set[int] = set()
        self.taken: list[int] = []

    @rule(gap=st.integers(1, 5))
    def fetch(self, gap: int) -> None:
        offset = (self.fetched[-1] if self.fetched else -1) + gap
        self.fetched.append(offset)
        self.sequencer.expect(offset)

    @precondition(lambda self: len(self.finished) < len(self.fetched))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from([offset for offset in self.fetched if offset not in self.finished]))
        self.finished.add(offset)
        self.sequencer.finish(offset, f"outcome {offset}")

    @rule()
    def take(self) -> None:
        run = self.sequencer.take()
        left = self.fetched[len(self.taken) :]
        expected = left[: next((i for i, offset in enumerate(left) if offset not in self.finished), len(left))]
        assert run == [f"outcome {offset}" for offset in expected]
        self.taken += expected

    @invariant()
    def counts_agree(self) -> None:
        left = self.fetched[len(self.taken) :]
        run = next((i for i, offset in enumerate(left) if offset not in self.finished), len(left))
        assert self.sequencer.ready() == run


TestSequencer = SequencerMachine.TestCase


@given(st.integers(0, 100), st.integers(0, 100))
def test_offsets_only_rise(first: int, second: int) -> None:
    """A record that does not follow the one before is a bug, and says so."""
    sequencer: Sequencer[str] = Sequencer()
    sequencer.expect(first)
    if second > first:
        sequencer.expect(second)
    else:
        with pytest.raises(ValueError, match=f"offset {second} after {first}"):
            sequencer.expect(second)
