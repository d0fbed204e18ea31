"""Writes what is generated: dashboards, rules, runbooks. Run it as `python -m dashboards.build`; a test compares."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.text import TextMode

from dashboards import metrics_table, model_monitoring, operations, runbook_page
from dashboards.panels import RUNBOOKS_UID, board, fill

FOLDER = Path(__file__).parent
KUBERNETES_RULES = FOLDER.parent / "infra" / "kubernetes" / "components" / "monitoring" / "rules.yaml"


def runbooks() -> dashboard.Dashboard:
    """The runbooks where the links of the panels lead to: Grafana shows no files."""
    target = board("Streamgauge Runbooks", RUNBOOKS_UID, "What each alert means, what to look at, what to do.")
    _intro, *sections = (FOLDER / "runbooks.md").read_text().split("\n## ")
    panels = []
    for section in sections:
        name, _newline, content = section.partition("\n")
        panel = text.Panel().title(name).description(f"Runbook of the alert {name}.").span(12).height(8)
        panels.append(panel.mode(TextMode.MARKDOWN).content(content.strip()))
    return fill(target, [("One section an alert", panels)])


def as_json(build: Callable[[], dashboard.Dashboard]) -> str:
    """A dashboard as it is committed."""
    return json.dumps(json.loads(JSONEncoder().encode(build().build())), indent=1, sort_keys=True) + "\n"


def prometheus_rules() -> str:
    """The rules as the Prometheus operator takes them: an object a file, whose specification is that file."""
    header = "# Generated from dashboards/rules by `python -m dashboards.build`.\n"
    return header + "---\n".join(
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n"
        f"metadata:\n  name: streamgauge-{path.stem}\nspec:\n{textwrap.indent(path.read_text(), '  ')}"
        for path in sorted((FOLDER / "rules").glob("*.yml"))
    )


def generated() -> dict[Path, str]:
    """All generated files with their contents."""
    return {
        FOLDER / "ml-model-monitoring.json": as_json(model_monitoring.build),
        FOLDER / "streamgauge-operations.json": as_json(operations.build),
        FOLDER / "streamgauge-runbooks.json": as_json(runbooks),
        FOLDER / "consoles" / "runbooks.html": runbook_page.page((FOLDER / "runbooks.md").read_text()),
        FOLDER / "METRICS.md": metrics_table.markdown(),
        KUBERNETES_RULES: prometheus_rules(),
    }


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content)
