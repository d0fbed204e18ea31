"""The stack's configuration, by the tools that will read it; nothing is started here."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from feedback_listener.settings import ListenerSettings
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from tests.cluster import ROOT
from tests.rules.test_alerts import ALERTS
from tests.stack.engine import compose_command
from worker.settings import WorkerSettings

INFRA = ROOT / "infra"
ALERTMANAGER = INFRA / "alertmanager" / "alertmanager.yml"
PROMETHEUS = INFRA / "prometheus" / "prometheus.yml"
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]

needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="amtool is not installed: apt-get install prometheus-alertmanager"
)


def checked(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    compose_command() is None, reason="no Compose v2: docker-compose.yml is only parsed (see DOCKER_COMPOSE)"
)
def test_compose_takes_the_file() -> None:
    """Compose itself resolves the file, with and without the profile."""
    shown = yaml.safe_load(checked(*(compose_command() or []), "-f", "docker-compose.yml", "--profile", "ui", "config"))
    assert set(shown["services"]) == set(SERVICES)
    assert not shown["services"]["worker"].get("ports")


def test_images_are_pinned_and_workers_can_be_scaled() -> None:
    """Every image has a version; the worker has no name and no port that only one replica could have."""
    for name, service in SERVICES.items():
        assert re.search(r":v?\d", service["image"]), name
        assert "container_name" not in service
    assert "ports" not in SERVICES["worker"]


def test_what_the_stack_mounts_and_sets_exists() -> None:
    """Files of ours that are mounted are there, and settings are settings; published ports are local."""
    known = {
        f"{settings.model_config['env_prefix']}{name}".upper()
        for settings in (KafkaSettings, TopicSettings, LogSettings, WorkerSettings, ListenerSettings)
        for name in settings.model_fields
    }
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in STACK["volumes"] or (ROOT / source).exists(), source
        assert {name for name in service.get("environment", {}) if name.startswith("STREAMGAUGE_")} <= known
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for secret in STACK["secrets"].values():
        assert (ROOT / re.sub(r"\$\{\w+:-(.*)}", r"\1", secret["file"])).exists()


def test_prometheus_scrapes_services_of_the_stack() -> None:
    """Every 5 s, replicas found by DNS; the names are services, and the jobs those that rules and dashboards know."""
    config = yaml.safe_load(PROMETHEUS.read_text())
    assert config["global"] == {"scrape_interval": "5s", "evaluation_interval": "5s"}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for job, service, port in (("streamgauge-worker", "worker", 8001), ("streamgauge-listener", "listener", 8002)):
        [found] = jobs[job]["dns_sd_configs"]
        assert (found["names"], found["port"], service in SERVICES) == ([service], port, True)
    named = re.findall(r"^\s+- targets: \[([a-z-]+):", PROMETHEUS.read_text(), re.MULTILINE)
    assert set(named) <= {*SERVICES, "localhost"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_takes_its_configuration() -> None:
    """In 2.42 and later: a setting of version 3 alone would be refused here."""
    checked("promtool", "check", "config", "--syntax-only", PROMETHEUS)


@needs_amtool
@pytest.mark.parametrize(("severity", "receivers"), [("critical", "local,page"), ("warning", "local,team")])
def test_alertmanager_routes_by_severity(severity: str, receivers: str) -> None:
    """The configuration is valid; everything goes to the local receiver, and to those whom its severity concerns."""
    checked("amtool", "check-config", ALERTMANAGER)
    routed = checked("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
    assert routed.strip() == receivers


def test_alerts_that_silence_others_exist() -> None:
    """Each inhibition has a source and targets that are alerts of ours, and no alert silences itself."""
    rules = yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    assert rules
    for rule in rules:
        [source], [target] = rule["source_matchers"], rule["target_matchers"]
        pattern = re.compile(re.sub(r'alertname=~?"(.*)"', r"\1", target))
        assert source.split('"')[1] in ALERTS
        silenced = {name for name in ALERTS if pattern.fullmatch(name)}
        assert len(silenced) == target.count("|") + 1
        assert source.split('"')[1] not in silenced


def test_secrets_are_files() -> None:
    """Slack's address and the mail server's password stand in no configuration."""
    text = ALERTMANAGER.read_text()
    assert "api_url_file: /run/secrets/slack-url" in text
    assert "auth_password_file: /run/secrets/smtp-password" in text
    assert not re.search(r"hooks\.slack\.com|api_url:|auth_password:", text)


def test_grafana_finds_its_datasource_and_dashboards() -> None:
    """The provisioned folder is the one that is mounted, and the first page is a dashboard of ours."""
    provisioning = INFRA / "grafana" / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "streamgauge.yml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    grafana = SERVICES["grafana"]
    folder = provider["options"]["path"]
    assert f"./dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "dashboards" / home.removeprefix(f"{folder}/")).exists()
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == "5s"
