"""*Try*: a text goes through Kafka and comes back; whether it was right goes there, too."""

import re
from typing import NamedTuple

import streamlit as st

from streamgauge.commands.page.choosing import Origin
from streamgauge.commands.page.desk import Desk, the_desk
from streamgauge.commands.page.frame import note, noted, show_noted, told
from streamgauge.commands.page.recent import Seen
from streamgauge.commands.page.room import Answer, new_id
from streamgauge.commands.page.words import card, duration, percent, plain

FIRST_WAIT_S = 2.0
"""A worker that is not behind has answered by then."""
LATER_EVERY_S = 1.0
SHOWN = 5
OURS = re.compile(r"page/[0-9a-f]{32}")


class Sent(NamedTuple):
    """What this session has sent, or finds in its address after a reload."""

    id: str
    text: str | None
    """None after a reload: it is read from Kafka again."""


def show() -> None:
    """A form, and the last texts with what became of them."""
    st.title("Try it")
    state = st.session_state
    _name_in_the_address()
    draft = state.setdefault("draft", new_id())
    with st.form(f"form-{draft}", border=False):
        st.text_area(
            "A text, as your customers would write it",
            key=f"text-{draft}",
            placeholder="what a lovely film",
            height=110,
        )
        st.form_submit_button("Send", type="primary", on_click=_send, args=(draft,))
    show_noted()
    for sent in _sent()[:SHOWN]:
        _card(sent)


def _sent() -> list[Sent]:
    """The newest first."""
    found: list[Sent] = st.session_state.setdefault("sent", [])
    named = st.query_params.get("sent", "")
    if OURS.fullmatch(named) and named not in {one.id for one in found}:
        found.append(Sent(named, None))
    return found


def _name_in_the_address() -> None:
    """The last text, for a reload. Streamlit ends a run where it would tell the browser something, once a further click
    has come: what is told in a click's callback would be lost, so it is told here, and again until it has been.
    """
    if newest := st.session_state.get("to_name"):
        st.query_params["sent"] = newest
        del st.session_state["to_name"]


def _send(draft: str) -> None:
    """The draft's id makes it one message; the next text gets another, also if it says the same."""
    state = st.session_state
    text = state.get(f"text-{draft}", "")
    if draft != state["draft"] or not text.strip():
        return
    with noted():
        the_desk().send_text(draft, text)
        _sent().insert(0, Sent(draft, text))
        state["draft"], state["to_name"] = new_id(), draft


def _card(sent: Sent) -> None:
    """Looks again by itself until there is an answer."""
    is_waiting = sent.id not in st.session_state.setdefault("answered", set())
    st.fragment(_answer, run_every=LATER_EVERY_S if is_waiting else None)(sent, is_waiting=is_waiting)


def _answer(sent: Sent, *, is_waiting: bool) -> None:
    desk = the_desk()
    with told(), st.container(border=True):
        answer = desk.answer(sent.id, FIRST_WAIT_S if is_waiting else 0.0)
        is_over = bool(answer.seen or answer.dead_letter or answer.problem)
        if is_over and is_waiting:
            st.session_state["answered"].add(sent.id)
            st.rerun()
        if text := sent.text or (answer.seen and desk.text(answer.seen.source)):
            st.html(card(text))
        if answer.seen:
            _result(answer.seen)
            _judge(desk, answer.seen, answer)
        else:
            st.markdown(_still(answer))


def _still(answer: Answer) -> str:
    if answer.problem:
        return f":red[Not sent:] {plain(answer.problem)}"
    if answer.dead_letter:
        return f":red[The worker could not score it:] {plain(answer.dead_letter)}"
    if not answer.is_delivered:
        return "On its way to Kafka. It is kept here, and will be sent once."
    ahead = "" if answer.ahead is None else f" Texts that wait for one: {answer.ahead:,}."
    return f"Kafka has it; no worker has answered yet.{ahead}"


def _result(seen: Seen) -> None:
    timings = seen.timings
    worker_s = timings.tokenize_s + timings.queue_s + timings.infer_s
    with st.container(horizontal=True, gap="medium"):
        st.metric("Label", plain(seen.label), width="content")
        st.metric("Confidence", percent(seen.score), width="content")
        st.metric("Took", duration(seen.stream_s), width="content")
    note(
        f"From the text in Kafka to its result in Kafka. Of that, {duration(worker_s)} in the worker: "
        f"{duration(timings.tokenize_s)} to read, {duration(timings.queue_s)} to wait for the model, "
        f"{duration(timings.infer_s)} in the model."
    )


def _judge(desk: Desk, seen: Seen, answer: Answer) -> None:
    """Yes, or the right class; a second answer corrects the first."""
    said: dict[str, tuple[int, str | None]] = st.session_state.setdefault("said", {})
    count, label = said.get(seen.id, (0, answer.given))
    st.markdown("Was this right?" if label is None else f"You said **{plain(label)}**. Another answer corrects it.")
    with st.container(horizontal=True):
        for name in sorted(seen.classes, key=lambda name: name != seen.label):
            words = f"Yes, {plain(name)}" if name == seen.label else f"No, {plain(name)}"
            key, arguments = f"judge-{seen.id}-{count}-{name}", (seen.id, count, name)
            st.button(words, key=key, on_click=_label, args=arguments, disabled=name == label)


def _label(message_id: str, count: int, label: str) -> None:
    """`count`: so many answers were given before; a second click brings one that is used up."""
    said: dict[str, tuple[int, str | None]] = st.session_state["said"]
    before, last = said.get(message_id, (0, None))
    if before != count:
        return
    said[message_id] = count + 1, last
    with noted():
        session = st.session_state.setdefault("session", new_id())
        the_desk().label(f"{session}/{message_id}/{count}", message_id, label, Origin.TRY)
        said[message_id] = count + 1, label
