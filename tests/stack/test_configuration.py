"""The stack's configuration, by the tools that will read it; nothing is started here."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
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


needs_compose = pytest.mark.skipif(
    compose_command() is None, reason="no Compose v2: docker-compose.yml is only parsed (see DOCKER_COMPOSE)"
)


def resolved(*files: str) -> dict[str, dict[str, Any]]:
    """The services as Compose itself resolves them, of all profiles."""
    words = [*(compose_command() or []), *(word for name in files for word in ("--file", name))]
    services: dict[str, dict[str, Any]] = yaml.safe_load(checked(*words, "--profile", "*", "config"))["services"]
    return services


@needs_compose
def test_compose_takes_the_file() -> None:
    """Compose itself resolves it; the profiles are those that the file's first lines name."""
    services = resolved("docker-compose.yml")
    assert set(services) == set(SERVICES)
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    assert profiles == {"demo", "ui", "lag"}
    assert not services["worker"].get("ports")


@needs_compose
def test_three_brokers_keep_three_replicas_of_everything() -> None:
    """Each has its own number, addresses and data; clients know all three; two of three are in sync."""
    services = resolved("docker-compose.yml", "infra/compose/three-brokers.yml")
    brokers = [services[name] for name in ("kafka", "kafka-2", "kafka-3")]
    for own in ("KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"):
        assert len({broker["environment"][own] for broker in brokers}) == 3
    for broker in brokers:
        replicated = {name: value for name, value in broker["environment"].items() if "REPLICATION_FACTOR" in name}
        assert len(replicated) == 4
        assert set(replicated.values()) == {"3"}
        in_sync = [value for name, value in broker["environment"].items() if name.endswith(("_ISR", "_REPLICAS"))]
        assert in_sync == ["2"] * 3
        assert (len(broker["ports"]), len(broker["volumes"])) == (1, 1)
    assert len({broker["volumes"][0]["source"] for broker in brokers}) == 3
    assert len({broker["ports"][0]["published"] for broker in brokers}) == 3
    for client in ("topics", "worker", "listener", "demo"):
        servers = services[client]["environment"]["STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS"]
        assert servers == "kafka:19092,kafka-2:19092,kafka-3:19092"


@needs_compose
def test_redpanda_has_kafkas_addresses_and_nothing_else_of_it() -> None:
    """Whoever connects to Kafka, from inside or from the host, finds Redpanda there."""
    kafka = resolved("docker-compose.yml", "infra/compose/redpanda.yml")["kafka"]
    assert kafka["image"].startswith("redpandadata/redpanda:v")
    assert not kafka.get("environment")
    for address in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","):
        assert address.split("//")[1] in kafka["command"][-1]
    assert [volume["source"] for volume in kafka["volumes"]] == ["redpanda"]


def test_every_service_has_bounds_and_a_health_check() -> None:
    """Memory, processor, rotated logs; what stays is known to be well, and what ends is waited for. No secret."""
    for name, service in SERVICES.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        of_the_image = name in {"worker", "listener"}
        assert of_the_image or service["healthcheck"].get("test") or service["healthcheck"]["disable"], name
        assert not [key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN", key)], name


def test_the_image_has_the_version_of_the_project() -> None:
    """In its label, in its name, and with a section of the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in (INFRA / "docker" / "Dockerfile").read_text()
    assert f"streamgauge:{version}}}" in SERVICES["worker"]["image"]
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", ["infra/docker/Dockerfile", "tests/stack/standins/Dockerfile"])
def test_hadolint_has_nothing_to_say(path: str) -> None:
    """Of both Dockerfiles, without exemptions."""
    checked(Path(sys.executable).with_name("hadolint"), path)


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt-get install shellcheck"
)
def test_shellcheck_has_nothing_to_say() -> None:
    """Of all shell in the project: whatever begins with the name of a shell."""
    names = checked("git", "ls-files").split()
    first_lines = {name: (ROOT / name).read_bytes()[:40] for name in names if (ROOT / name).is_file()}
    scripts = [name for name, line in first_lines.items() if re.match(rb"#!\S+( |/)(ba)?sh\n", line)]
    assert ".ci/run" in scripts
    checked("shellcheck", *scripts)


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


@pytest.mark.parametrize(("name", "port"), [("prometheus", 9090), ("alertmanager", 9093)])
def test_links_in_alerts_lead_to_published_addresses(name: str, port: int) -> None:
    """They begin with the external URL: without one, with the container's own name, which no browser knows."""
    assert f"--web.external-url=http://localhost:{port}" in SERVICES[name]["command"]
    assert f"127.0.0.1:{port}:{port}" in SERVICES[name]["ports"]


def test_prometheus_serves_the_runbooks() -> None:
    """Their folder is mounted where Prometheus looks for console templates."""
    prometheus = SERVICES["prometheus"]
    [folder] = [word.split("=")[1] for word in prometheus["command"] if word.startswith("--web.console.templates=")]
    assert f"./dashboards/consoles:{folder}:ro" in prometheus["volumes"]


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
        source, target = rule["source_matchers"][0], rule["target_matchers"][0]
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
