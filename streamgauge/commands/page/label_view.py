"""*Label*: one text after the other, one key a label."""

import time
from importlib.resources import files
from typing import Literal

import streamlit as st

from streamgauge.commands.page.choosing import Origin
from streamgauge.commands.page.desk import the_desk
from streamgauge.commands.page.frame import note, noted, show_noted, told
from streamgauge.commands.page.room import new_id
from streamgauge.commands.page.walk import Shown, Walk
from streamgauge.commands.page.words import card, plain, turn_mark
from streamgauge.errors import StreamgaugeError

MAX_KEYS = 9
SKIP, UNDO = "s", "u"
EMPTY_EVERY_S = 3.0
ORIGINS = {
    Origin.AUDIT: "From the audit: chosen by chance, so your answer says how right the model is.",
    Origin.UNCERTAIN: "Chosen because the model was not sure. It does not count for the audit.",
    Origin.RANDOM: "Chosen at random among the last results. It does not count for the audit.",
}
KEYS = f"<script>{(files(__package__) / 'keys.js').read_text(encoding='utf-8')}</script>"
"""Streamlit's own shortcuts are bound some time after a button is drawn, and know of no text."""


def show() -> None:
    """The model's answer is not shown: it would sway who labels."""
    with st.container(gap=None):
        st.html(KEYS, unsafe_allow_javascript=True)
        st.title("Label")
    walk = st.session_state.setdefault("walk", Walk(new_id()))
    is_waiting = walk.wants_more
    st.fragment(_card, run_every=EMPTY_EVERY_S if is_waiting else None)(walk, is_waiting=is_waiting)


def _card(walk: Walk, *, is_waiting: bool) -> None:
    """Looks again by itself while there is no text."""
    desk = the_desk()
    with told():
        try:
            if walk.wants_more:
                _fetch(walk)
        finally:
            if walk.wants_more != is_waiting:
                st.rerun()
        show_noted()
        walk.drawn(time.monotonic())
        if walk.current is None:
            _nothing(walk, desk.audit_left())
        else:
            _ask(walk, walk.current)
        note(f"Labelled now: {len(walk.labels)} · audited texts left: {desk.audit_left():,}")


def _fetch(walk: Walk) -> None:
    with st.spinner("Looking for a text…"):
        found = the_desk().next_item(walk.labeller)
    if found:
        walk.show(Shown(*found))


def _nothing(walk: Walk, audit_left: int) -> None:
    words = "Nothing to label just now: all texts that are known here have a label. New ones show up by themselves."
    if audit_left:
        words = (
            "Nothing to label just now: what is left was skipped here, or is before another labeller or another tab, "
            "which keeps a text for 5 minutes. It shows up by itself."
        )
    st.info(words)
    if walk.can_undo:
        st.html(turn_mark(_name(walk), UNDO))
        _undo_button(walk)


def _ask(walk: Walk, shown: Shown) -> None:
    item, turn, name_of_turn = shown.item, walk.turn, _name(walk)
    numbers = [str(number) for number in range(1, min(len(item.classes), MAX_KEYS) + 1)]
    with st.container(border=True):
        st.html(card(shown.text, turn=name_of_turn, keys="".join([*numbers, SKIP, UNDO])))
    with st.container(horizontal=True):
        for place, name in enumerate(item.classes):
            is_said = walk.labels.get(item.id) == name
            kind: Literal["primary", "secondary"] = "primary" if is_said else "secondary"
            st.button(
                plain(name),
                key=f"{name_of_turn}-{place + 1}",
                type=kind,
                shortcut=numbers[place] if place < MAX_KEYS else None,
                on_click=_label,
                args=(walk, turn, name),
            )
    with st.container(horizontal=True):
        key, arguments = f"{name_of_turn}-{SKIP}", (walk, turn)
        st.button("Skip", key=key, type="tertiary", shortcut=SKIP, on_click=_skip, args=arguments)
        _undo_button(walk)
    note(ORIGINS[item.origin])


def _undo_button(walk: Walk) -> None:
    is_off, arguments = not walk.can_undo, (walk, walk.turn)
    key = f"{_name(walk)}-{UNDO}"
    st.button("Undo", key=key, type="tertiary", shortcut=UNDO, on_click=_undo, args=arguments, disabled=is_off)


def _name(walk: Walk) -> str:
    """Of the turn, as the class of an element may be called."""
    return walk.key.replace("/", "-")


def _label(walk: Walk, turn: int, label: str) -> None:
    if not walk.counts(turn, time.monotonic()) or walk.current is None:
        return
    item = walk.current.item
    with noted():
        try:
            the_desk().label(walk.key, item.id, label, item.origin, wait_s=1.0)
        except StreamgaugeError:
            walk.show(walk.current)  # another turn: the key of this one is used up
            raise
        walk.answer(label)


def _skip(walk: Walk, turn: int) -> None:
    if not walk.counts(turn, time.monotonic()) or walk.current is None:
        return
    with noted():
        the_desk().skip(walk.labeller, walk.current.item.id)
        walk.skip()


def _undo(walk: Walk, turn: int) -> None:
    if walk.counts(turn, time.monotonic()):
        walk.undo()
