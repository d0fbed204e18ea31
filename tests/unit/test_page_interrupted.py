"""A run of the page that a further click ends: Streamlit raises wherever the run would tell the browser something."""

from typing import Any

import pytest
import streamlit as st

from streamgauge.commands.page import frame, try_view

DRAFT = f"page/{0:032x}"


class Ended(BaseException):
    """As Streamlit's own, no Exception."""


class Address(dict[str, str]):
    """What the browser was told; the first time the run is ended instead."""

    is_ended = False

    def __setitem__(self, name: str, value: str) -> None:
        if not self.is_ended:
            self.is_ended = True
            raise Ended
        super().__setitem__(name, value)


class Desk:
    def send_text(self, draft: str, text: str) -> None:
        assert (draft, text) == (DRAFT, "a text")


def test_a_text_is_named_in_the_address_by_the_run_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload would not find it otherwise."""
    address, state = Address(), {"draft": DRAFT, f"text-{DRAFT}": "a text"}
    monkeypatch.setattr(st, "query_params", address)
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(try_view, "the_desk", Desk)
    try_view._send(DRAFT)
    with pytest.raises(Ended):
        try_view._name_in_the_address()
    try_view._send(DRAFT)  # the click that ended the run
    try_view._name_in_the_address()
    assert address == {"sent": DRAFT}


def test_a_problem_is_told_by_the_run_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def error(problem: str, **_icon: Any) -> None:
        told.append(problem)
        if len(told) == 1:
            raise Ended

    monkeypatch.setattr(st, "error", error)
    monkeypatch.setattr(st, "session_state", {frame.PROBLEM: "too long"})
    with pytest.raises(Ended):
        frame.show_noted()
    for _run in range(2):
        frame.show_noted()
    assert told == ["too long", "too long"]
