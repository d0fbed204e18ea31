"""What all views share: the banner that says when nothing moves, and what went wrong in an answer to a click."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from streamgauge.commands.page.desk import the_desk
from streamgauge.errors import StreamgaugeError

PROBLEM = "problem"


@st.fragment(run_every=2.0)
def banner() -> None:
    """Says why nothing moves, while nothing does."""
    with told():
        if trouble := the_desk().trouble():
            st.error(trouble, icon=":material/cloud_off:")


def note(line: str) -> None:
    """A small line of Markdown; Streamlit's own captions are too pale to be read by everybody."""
    st.markdown(f":small[{line}]")


def heading(words: str) -> None:
    """Of a part of a view; Streamlit's own of this level are as large as those of the view."""
    st.html(f'<h2 style="font-size: 1.3rem; margin: 1rem 0 0; padding: 0">{html.escape(words)}</h2>')


@contextmanager
def told() -> Iterator[None]:
    """An error of ours in the body is shown in its place."""
    try:
        yield
    except StreamgaugeError as error:
        st.error(str(error), icon=":material/error:")


@contextmanager
def noted() -> Iterator[None]:
    """The same in a callback, which may not show anything: the next run of the view does, by `show_noted`."""
    try:
        yield
    except StreamgaugeError as error:
        st.session_state[PROBLEM] = str(error)


def show_noted() -> None:
    """What went wrong in the last callback, once."""
    if problem := st.session_state.get(PROBLEM):
        st.error(problem, icon=":material/error:")  # here a further click may end the run
        del st.session_state[PROBLEM]
