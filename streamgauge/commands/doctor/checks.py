"""What a check is, and how they are made."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from streamgauge.commands.doctor.picture import NotSeen, Picture


class Found(NamedTuple):
    """One thing that is wrong, and the command that mends it."""

    what: str
    mend: str


Look = Callable[[Picture], Iterable[Found]]


class Check(NamedTuple):
    """A misconfiguration that is looked for."""

    name: str
    looks_for: str
    why: str
    """Why it matters, one or two sentences."""
    source: str
    """Where somebody had this trouble."""
    look: Look


class Finding(NamedTuple):
    """What is reported of a check that found something."""

    check: str
    what: str
    why: str
    mend: str


class Report(NamedTuple):
    """The outcome of all checks."""

    checks: int
    findings: tuple[Finding, ...]
    not_made: tuple[tuple[str, str], ...]
    """Checks that could not be made, and why."""


def check(name: str, *, why: str, source: str) -> Callable[[Look], Check]:
    """Makes a function a check; the first line of its docstring says what it looks for."""

    def made(look: Look) -> Check:
        looks_for = (look.__doc__ or "").splitlines()[0]
        return Check(name, looks_for, why, source, look)

    return made


def examine(checks: Sequence[Check], picture: Picture) -> Report:
    """Make all checks on a picture. What a check has found counts, even if it could not see everything."""
    findings: list[Finding] = []
    not_made: list[tuple[str, str]] = []
    for each in checks:
        before = len(findings)
        try:
            for found in each.look(picture):
                findings.append(Finding(each.name, found.what, each.why, found.mend))
        except NotSeen as because:
            if len(findings) == before:
                not_made.append((each.name, str(because)))
    return Report(len(checks), tuple(findings), tuple(not_made))
