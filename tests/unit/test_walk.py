"""A labeller's way: what an answer means, and the way back."""

from hypothesis import given
from hypothesis import strategies as st

from streamgauge.commands.page.choosing import Item, Origin
from streamgauge.commands.page.walk import LOOK_S, Shown, Walk
from tests.audited import CLASSES
from tests.unit.test_choosing import position

STEPS = st.lists(st.sampled_from(["POSITIVE", "NEGATIVE", "skip", "undo"]), max_size=30)


def shown(number: int) -> Shown:
    return Shown(Item(f"id-{number}", Origin.AUDIT, CLASSES, position(number)), f"text {number}")


@given(STEPS)
def test_the_way_is_that_of_a_list(steps: list[str]) -> None:
    """Forward and back over texts in their order; each has its last label; each showing is a turn of its own."""
    walk, place, made = Walk("anna"), 0, 0
    labels: dict[str, str] = {}
    keys = set()
    for step in steps:
        if walk.wants_more:
            walk.show(shown(made))
            made += 1
        assert walk.current == shown(place)
        assert walk.key not in keys
        assert walk.can_undo == (place > 0)
        keys.add(walk.key)
        if step == "undo":
            if place == 0:
                keys.discard(walk.key)
            walk.undo()
            place = max(0, place - 1)
        elif step == "skip":
            walk.skip()
            place += 1
        else:
            walk.answer(step)
            labels[f"id-{place}"] = step
            place += 1
    assert walk.labels == labels


def test_an_answer_counts_once_and_after_a_look() -> None:
    """Not that of another turn, nor one before anybody can have seen the text; drawn again, it was seen before."""
    walk = Walk("anna")
    assert not walk.counts(0, 10.0)
    walk.show(shown(0))
    assert not walk.counts(walk.turn, 20.0)
    walk.drawn(21.0)
    assert not walk.counts(walk.turn - 1, 30.0)
    assert not walk.counts(walk.turn, 21.0 + LOOK_S / 2)
    walk.drawn(21.0 + 2 * LOOK_S)
    assert walk.counts(walk.turn, 21.0 + 2 * LOOK_S)
    first = walk.turn
    walk.answer("POSITIVE")
    walk.show(shown(1))
    walk.drawn(31.0)
    assert not walk.counts(first, 40.0)
    assert walk.counts(walk.turn, 40.0)
