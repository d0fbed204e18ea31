"""What `demo --watch` makes of the stack's configuration, and what it finds on a machine."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamgauge.commands import monitoring_files as files
from streamgauge.commands.monitoring import DOWNLOADS, Grafana, find_programs, how_to_get
from streamgauge.errors import ConfigurationError
from tests.cluster import ROOT

PROMETHEUS = (files.INFRA / "prometheus" / "prometheus.yml").read_text()
ALERTMANAGER = (files.INFRA / "alertmanager" / "alertmanager.yml").read_text()
PROVISIONING = files.INFRA / "grafana" / "provisioning"
ADDRESSES = {
    "worker:8001": "127.0.0.1:8101",
    "listener:8002": None,
    "kminion:8080": None,
    "localhost:9090": "127.0.0.1:9190",
    "alertmanager:9093": "127.0.0.1:9193",
}


def which(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in names else None


def without_discovery(config: dict[str, Any]) -> dict[str, Any]:
    """Prometheus' configuration but for where its targets are."""
    for group in (*config["scrape_configs"], *config["alerting"]["alertmanagers"]):
        group.pop("dns_sd_configs", None)
        group.pop("static_configs", None)
    return config


def test_prometheus_differs_from_the_stacks_in_its_targets_alone() -> None:
    """Jobs, intervals and rules are the stack's; nothing is looked for by name."""
    text = files.prometheus_config(PROMETHEUS, ADDRESSES)
    config = yaml.safe_load(text)
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        "streamgauge-worker": ["127.0.0.1:8101"],
        "streamgauge-listener": [],
        "kminion": [],
        "prometheus": ["127.0.0.1:9190"],
        "alertmanager": ["127.0.0.1:9193"],
    }
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["127.0.0.1:9193"]
    assert "dns_sd_configs" not in text
    assert without_discovery(config) == without_discovery(yaml.safe_load(PROMETHEUS))


def test_a_service_that_is_new_to_the_stack_is_not_forgotten() -> None:
    """A job whose address nobody named is an error, not a target that is never up."""
    with pytest.raises(KeyError, match="new:1234"):
        files.prometheus_config(PROMETHEUS + "      - targets: [new:1234]\n", ADDRESSES)


def test_alertmanager_keeps_its_routes_and_delivers_nowhere() -> None:
    """The receivers have their names alone: no secret is read, no mail is sent."""
    config, stack = yaml.safe_load(files.alertmanager_config(ALERTMANAGER)), yaml.safe_load(ALERTMANAGER)
    assert config.pop("receivers") == [{"name": receiver["name"]} for receiver in stack.pop("receivers")]
    assert config == stack


@pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("amtool")),
    reason="no promtool or amtool here: apt-get install prometheus prometheus-alertmanager",
)
def test_their_own_tools_take_both(tmp_path: Path) -> None:
    """With the project's rules beside Prometheus' configuration."""
    (tmp_path / "rules").symlink_to(files.DASHBOARDS / "rules")
    (tmp_path / "prometheus.yml").write_text(files.prometheus_config(PROMETHEUS, ADDRESSES))
    (tmp_path / "alertmanager.yml").write_text(files.alertmanager_config(ALERTMANAGER))
    for tool in (["promtool", "check", "config", "prometheus.yml"], ["amtool", "check-config", "alertmanager.yml"]):
        done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_provisioned_as_in_the_stack() -> None:
    """Other addresses and paths, also one with a blank and quotes; its settings are those of docker-compose.yml."""
    source = (PROVISIONING / "datasources" / "prometheus.yml").read_text()
    provider = (PROVISIONING / "dashboards" / "streamgauge.yml").read_text()
    [datasource] = yaml.safe_load(files.datasource(source, "http://127.0.0.1:9190"))["datasources"]
    assert datasource == yaml.safe_load(source)["datasources"][0] | {"url": "http://127.0.0.1:9190"}
    folder = Path('/home/a b "c"/dashboards')
    [dashboards] = yaml.safe_load(files.dashboard_provider(provider, folder))["providers"]
    assert dashboards == yaml.safe_load(provider)["providers"][0] | {"options": {"path": str(folder)}}

    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["environment"]
    own = files.grafana_environment(Path("/tmp/own"), folder, 3001)
    home = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    assert own.pop(home) == str(folder / Path(stack.pop(home)).name)
    written = {name for name in own if name.startswith("GF_PATHS_")}
    assert all(own.pop(name).startswith("/tmp/own/") for name in written)
    assert own == stack | {"GF_SERVER_HTTP_ADDR": "127.0.0.1", "GF_SERVER_HTTP_PORT": "3001"}


@pytest.mark.parametrize(
    ("manager", "name", "expected"),
    [
        ("apt-get", "Prometheus", "sudo apt-get install prometheus"),
        ("apt-get", "Alertmanager", "sudo apt-get install prometheus-alertmanager"),
        ("apt-get", "Grafana", DOWNLOADS["Grafana"]),
        ("brew", "Grafana", "brew install grafana"),
        ("brew", "Alertmanager", DOWNLOADS["Alertmanager"]),
        ("none", "Prometheus", DOWNLOADS["Prometheus"]),
    ],
)
def test_what_is_missing_comes_with_one_command(manager: str, name: str, expected: str) -> None:
    """The package manager's that is here, if it has the program; else the page to download it from."""
    assert how_to_get(name, which(manager)) == expected


def test_alertmanager_has_two_names() -> None:
    """Debian's and everybody else's."""
    assert (
        find_programs(which("prometheus", "prometheus-alertmanager")).alertmanager == "/usr/bin/prometheus-alertmanager"
    )
    found = find_programs(which("prometheus", "alertmanager", "apt-get"))
    assert found.alertmanager == "/usr/bin/alertmanager"
    assert dict(found.missing) == {"Grafana": DOWNLOADS["Grafana"]}


@pytest.mark.parametrize(
    ("on_the_path", "home", "executable"),
    [
        ("grafana-13.2.0/bin/grafana", "grafana-13.2.0", "grafana-13.2.0/bin/grafana"),
        (
            "Cellar/grafana/13.2.0/bin/grafana",
            "Cellar/grafana/13.2.0/share/grafana",
            "Cellar/grafana/13.2.0/bin/grafana",
        ),
        ("usr/sbin/grafana", "usr/share/grafana", "usr/share/grafana/bin/grafana"),
    ],
)
def test_grafana_is_found_with_its_home(tmp_path: Path, on_the_path: str, home: str, executable: str) -> None:
    """As unpacked, as Homebrew lays it out, and the packages': there a script stands before it."""
    for name in (on_the_path, executable, f"{home}/conf/defaults.ini"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    link = tmp_path / "grafana"
    link.symlink_to(tmp_path / on_the_path)
    found = find_programs(lambda name: str(link) if name == "grafana" else None).grafana
    assert found == Grafana(tmp_path / executable, tmp_path / home)


def test_without_the_projects_folder_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation from a wheel has no rules and no dashboards; that is said before Kafka starts."""
    monkeypatch.setattr(files, "DASHBOARDS", tmp_path)
    with pytest.raises(ConfigurationError, match="in a clone"):
        find_programs(which("prometheus"))
