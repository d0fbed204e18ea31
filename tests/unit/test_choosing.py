"""Which text a labeller gets next: the audit first, nothing twice, nothing for two at once."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streamgauge.commands.audit_queue import Audited
from streamgauge.commands.page.choosing import HOLD_S, Chooser, Origin
from streamgauge.commands.page.recent import Given, Recent, Seen
from streamgauge.events import Position
from tests.audited import CLASSES, MODEL, TIMINGS

WAYS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["label", "skip", "keep", "lose"])), max_size=40)


def position(number: int) -> Position:
    return Position(topic="x.input", partition=0, offset=number, timestamp_ms=0)


def audited(number: int) -> Audited:
    return Audited(f"audit-{number}", number, MODEL, CLASSES, position(number))


def recent(count: int) -> Recent:
    """Results of growing confidence."""
    found = Recent()
    for number in range(count):
        at = position(100 + number)
        found.results[f"id-{number}"] = Seen(
            f"id-{number}", number, "POSITIVE", 0.5 + number / 100, CLASSES, at, TIMINGS
        )
    return found


@given(WAYS, st.integers(0, 6), st.integers(0, 6))
def test_each_text_has_one_labeller_and_one_label(ways: list[tuple[str, str]], audit: int, results: int) -> None:
    """The audit in its order, before all others; never what another holds, what is labelled, or what one skipped."""
    chooser, known = Chooser(random.Random(1)), recent(results)
    chooser.audit([audited(number) for number in range(audit)], known)
    held: dict[str, str] = {}
    gone: set[str] = set()
    skipped: set[tuple[str, str]] = set()
    for labeller, way in ways:
        item = chooser.next(labeller, known, now_s=0)
        free = {f"audit-{number}" for number in range(audit)} | known.results.keys()
        free -= gone | {name for who, name in skipped if who == labeller}
        free -= {name for name, who in held.items() if who != labeller}
        if item is None:
            assert not free
            continue
        assert item.id in free
        if audits := sorted(name for name in free if name.startswith("audit")):
            assert (item.id, item.origin) == (audits[0], Origin.AUDIT)
        held[item.id] = labeller
        if way in {"label", "lose"}:
            chooser.done(item.id)
            gone.add(item.id)
        elif way == "skip":
            chooser.skip(labeller, item.id)
            skipped.add((labeller, item.id))
            del held[item.id]


def test_uncertain_and_random_take_turns() -> None:
    """The least sure first; a label says which it was."""
    chooser, known = Chooser(random.Random(1)), recent(9)
    first, second, third = (chooser.next(name, known, 0) for name in "abc")
    assert first and second and third  # noqa: PT018
    assert [one.origin for one in (first, second, third)] == [Origin.UNCERTAIN, Origin.RANDOM, Origin.UNCERTAIN]
    assert first.id == "id-0"
    assert third.id in {"id-1", "id-2"}


def test_what_is_held_is_free_again_some_day() -> None:
    """When its labeller has left; and for its labeller at any time."""
    chooser, known = Chooser(random.Random(1)), recent(0)
    chooser.audit([audited(0)], known)
    for labeller, now_s, expected in (("a", 0.0, True), ("b", 1.0, False), ("a", 2.0, True), ("b", 3.0 + HOLD_S, True)):
        assert bool(chooser.next(labeller, known, now_s)) == expected


def test_what_somebody_has_labelled_elsewhere_is_not_asked_for() -> None:
    """As the feedback topic tells; a label that is no class is none. The audit's reading may be older."""
    chooser, known = Chooser(random.Random(1)), recent(1)
    chooser.audit([audited(0), audited(1)], known)
    known.labels["audit-0"] = Given("POSITIVE", None, 0)
    known.labels["audit-1"] = Given("odd", None, 0)
    known.labels["id-0"] = Given("NEGATIVE", None, 0)
    assert chooser.audit_left(known) == 1
    found = chooser.next("a", known, 0)
    assert found
    assert found.id == "audit-1"
    chooser.done("audit-1")
    assert chooser.next("a", known, 0) is None
