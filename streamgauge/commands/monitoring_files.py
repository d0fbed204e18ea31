"""The stack's configuration of Prometheus, Alertmanager and Grafana, for one machine without containers.

The files in infra/ are the only source. Here they get this machine's addresses and paths, and nothing else changes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from streamgauge.child import HOST

PROJECT = Path(__file__).parents[2]
"""A clone, or what an editable installation leads to: rules, dashboards and configuration are in no wheel."""
DASHBOARDS = PROJECT / "dashboards"
INFRA = PROJECT / "infra"

FOR_READERS = {
    "GF_AUTH_ANONYMOUS_ENABLED": "true",
    "GF_AUTH_DISABLE_LOGIN_FORM": "true",
    "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
}
"""Grafana's settings in docker-compose.yml: whoever opens it reads, and nobody logs in."""

_FOUND_BY_NAME = re.compile(r"dns_sd_configs:\n( +)- \{names: \[([\w-]+)\], type: A, port: (\d+), [^}\n]*\}")
_LISTED = re.compile(r"targets: \[([\w-]+:\d+)\]")


def prometheus_config(text: str, addresses: Mapping[str, str | None]) -> str:
    """Prometheus' configuration with each `service:port` of the stack replaced; None: there is none to be asked.

    Raises KeyError for a service that `addresses` does not know.
    """
    listed = _FOUND_BY_NAME.sub(r"static_configs:\n\1- targets: [\2:\3]", text)
    return _LISTED.sub(lambda found: f"targets: [{addresses[found[1]] or ''}]", listed)


def alertmanager_config(text: str) -> str:
    """Alertmanager's routes as they are; the receivers deliver nowhere, and need no secret: its page shows alerts."""
    head, _receivers, receivers = text.partition("\nreceivers:\n")
    names = re.findall(r"^  - name: (\S+)$", receivers, re.MULTILINE)
    return f"{head}\nreceivers:\n" + "".join(f"  - name: {name}\n" for name in names)


def datasource(text: str, prometheus: str) -> str:
    """Grafana's datasource, at this URL of Prometheus."""
    return text.replace("http://prometheus:9090", prometheus)


def dashboard_provider(text: str, folder: Path) -> str:
    """Grafana's provider of dashboards, reading this folder. A JSON string is a YAML string."""
    return text.replace("/etc/streamgauge/dashboards", json.dumps(str(folder)))


def grafana_environment(folder: Path, dashboards: Path, port: int) -> dict[str, str]:
    """What Grafana reads from its environment: all that it writes stays in `folder`."""
    paths = {name: str(folder / name) for name in ("data", "logs", "plugins", "provisioning")}
    return {
        **FOR_READERS,
        **{f"GF_PATHS_{name.upper()}": path for name, path in paths.items()},
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(dashboards / "ml-model-monitoring.json"),
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
    }
