"""A report for people, for programs, and the list of all checks as a page."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator

from streamgauge.commands.doctor.checks import Check, Report
from streamgauge.terminal import harmless


def as_json(report: Report) -> str:
    """One JSON object."""
    return json.dumps(
        {
            "checks": report.checks,
            "findings": [finding._asdict() for finding in report.findings],
            "not_made": [{"check": name, "because": because} for name, because in report.not_made],
        }
    )


def as_text(report: Report) -> Iterator[str]:
    """Lines for a terminal: what is wrong first, then what could not be seen."""
    for finding in report.findings:
        yield harmless(f"{finding.check}: {finding.what}")
        yield harmless(f"    why:  {finding.why}")
        yield harmless(f"    mend: {finding.mend}")
        yield ""
    unmade: dict[str, list[str]] = defaultdict(list)
    for name, because in report.not_made:
        unmade[because].append(name)
    for because, names in unmade.items():
        yield harmless(f"not checked: {', '.join(names)} ({because})")
    found = len({finding.check for finding in report.findings})
    well = report.checks - found - len(report.not_made)
    yield f"{report.checks} checks: {found} found something, {well} found nothing, {len(report.not_made)} not made"


def as_page(checks: Iterable[Check]) -> Iterator[str]:
    """All that is looked for, as Markdown."""
    yield "# What `streamgauge doctor` looks for"
    yield ""
    yield "Printed by `streamgauge doctor --list`. Each was somebody's trouble: the last column says whose."
    yield "A check that cannot be made, for want of a right or an answer, says so and is no finding."
    yield ""
    yield "| check | what is wrong | why it matters | seen at |"
    yield "|---|---|---|---|"
    for each in checks:
        yield f"| `{each.name}` | {each.looks_for} | {each.why} | [{_whose(each.source)}]({each.source}) |"


def _whose(source: str) -> str:
    """The address of an issue, in short."""
    path = source.removeprefix("https://").removeprefix("github.com/")
    return path.replace("/issues/", "#").replace("/pull/", "#") if "github.com" in source else path.split("/")[0]
