"""The page of all alerts, from the rules."""

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from docs.generators.table import table

RULES = Path(__file__).parents[2] / "dashboards" / "rules"
INTRO = """# Alerts

Generated from [the rules](../../dashboards/rules/alerts.yml) by `python -m docs.build`. `critical` wakes somebody,
`warning` waits for the morning. The name leads to the runbook: what it means, what to look at, what to do. What the
rules record first, `streamgauge:…`, is below.
"""
RECORDED = """
## What is recorded

Dashboards and alerts read these, never a service's own series, wherever there is one.

"""


def page() -> str:
    """The alerts, then what is recorded."""
    rules = [rule for path in sorted(RULES.glob("*.yml")) for rule in _rules(path)]
    alerts = [rule for rule in rules if "alert" in rule]
    recorded = [rule for rule in rules if "record" in rule]
    shown = INTRO + "\n" + table(("alert", "severity", "when it has been true for", "says"), map(_row, alerts))
    shown += "\n## Conditions\n" + "".join(f"\n### {rule['alert']}\n\n{_promql(rule)}" for rule in alerts)
    rows = [(f"`{rule['record']}`", _inline(rule)) for rule in recorded]
    return shown + RECORDED + table(("recorded", "from"), rows)


def _rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def _row(rule: dict[str, Any]) -> tuple[str, str, str, str]:
    name = rule["alert"]
    runbook = f"[{name}](../../dashboards/runbooks.md#{name.lower()})"
    says = re.sub(r"(\{\{.*?}})+", "…", rule["annotations"]["summary"])
    return runbook, rule["labels"]["severity"], rule.get("for", "at once"), says


def _promql(rule: dict[str, Any]) -> str:
    return textwrap.indent(rule["expr"].strip(), "    ") + "\n"


def _inline(rule: dict[str, Any]) -> str:
    return f"`{' '.join(rule['expr'].split())}`"
