"""The manifests: every overlay is rendered, checked against schemas in strict mode, and against the code it runs."""

import copy
from pathlib import Path
from typing import Any

import certifi
import jsonschema
import kubernetes_validate
import pytest
import yaml

from feedback_listener.settings import ListenerSettings
from streamgauge import rights
from streamgauge.settings import KafkaSettings, LogSettings, Settings, TopicSettings, load
from streamgauge.topics import desired
from tests.deploy.rendering import (
    KUBERNETES,
    MODEL_COMPONENTS,
    OVERLAYS,
    Object,
    container,
    environment,
    mounts,
    needs_kustomize,
    of_kind,
    one,
    ours,
    pod,
    rendered,
    with_component,
    workloads,
)
from worker.service import REBALANCE_MARGIN_S
from worker.settings import WorkerSettings, most_memory_bytes

pytestmark = needs_kustomize

OLDEST, NEWEST = "1.28", kubernetes_validate.latest_version()
CUSTOM: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "custom-resources.yaml").read_text())
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)

LOADED_BY: dict[str, tuple[type[Settings], ...]] = {
    "worker": (KafkaSettings, TopicSettings, LogSettings, WorkerSettings),
    "listen": (KafkaSettings, TopicSettings, LogSettings, ListenerSettings),
    "topics": (KafkaSettings, TopicSettings, LogSettings, WorkerSettings),
}


def refusal(found: Object, version: str) -> str | None:
    """Why the cluster would not take this object; None: it would."""
    schema = CUSTOM.get(f"{found['apiVersion']}/{found['kind']}")
    try:
        if schema:
            jsonschema.Draft202012Validator(schema).validate(found)
        else:
            kubernetes_validate.validate(found, version, strict=True)
    except jsonschema.ValidationError as error:
        return str(error.message)
    return None


@each_overlay
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_cluster_takes_every_object(overlay: str, version: str) -> None:
    """Also the oldest one that numbers the pods of a StatefulSet by a label."""
    for found in rendered(overlay):
        assert refusal(found, version) is None, (found["kind"], found["metadata"]["name"])


def test_a_wrong_field_is_refused() -> None:
    """In each kind of object that any overlay holds, the custom ones too."""
    kinds = {found["kind"]: found for overlay in OVERLAYS for found in rendered(overlay)}
    assert len(kinds) > 14
    for kind, found in kinds.items():
        wrong = copy.deepcopy(found)
        wrong.get("spec", wrong)["replicasses"] = 2
        assert "replicasses" in (refusal(wrong, NEWEST) or ""), kind


def test_a_field_of_a_kafka_trigger_is_refused_when_it_is_misspelt() -> None:
    """KEDA itself would ignore it."""
    wrong = copy.deepcopy(one(rendered("production"), "ScaledObject", "streamgauge-worker"))
    wrong["spec"]["triggers"][0]["metadata"]["lagThreshhold"] = "10"
    assert refusal(wrong, NEWEST)


def settings_of(
    objects: tuple[Object, ...], workload: Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ordinal: int = 0
) -> list[Settings]:
    """What the container's command makes of its environment. Raises ConfigurationError as the command would."""
    found = environment(objects, workload, ordinal)
    paths = [path for path, _volume in mounts(workload)]
    (tmp_path / "password").write_text("a secret")
    here = {"CA_FILE": certifi.where(), "PASSWORD_FILE": str(tmp_path / "password")}
    for name, file in here.items():  # must be readable, and are so only in the pod
        if mounted := found.get(f"STREAMGAUGE_KAFKA_{name}"):
            assert str(Path(mounted).parent) in paths
            found[f"STREAMGAUGE_KAFKA_{name}"] = file
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        for name, value in found.items():
            patched.setenv(name, value)
        return [load(each) for each in LOADED_BY[container(workload)["command"][1]]]


@each_overlay
def test_settings_are_settings(overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each container's command takes its whole environment; an unknown name would be refused."""
    objects = rendered(overlay)
    assert {container(workload)["command"][1] for workload in ours(objects)} == set(LOADED_BY)
    for workload in ours(objects):
        kafka, topics, log, *own = settings_of(objects, workload, monkeypatch, tmp_path)
        assert isinstance(kafka, KafkaSettings)
        assert isinstance(log, LogSettings)
        assert (topics, log.format) == (TopicSettings(), "json")
        assert kafka.security_protocol == ("PLAINTEXT" if overlay == "dev" else "SASL_SSL")
        if isinstance(own[0], ListenerSettings):
            assert str(own[0].store_path("x").parent) in [path for path, _volume in mounts(workload)]


@each_overlay
def test_every_shard_has_its_pod(overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ordinals are the shards' numbers: as many as there are replicas, none twice."""
    objects = rendered(overlay)
    listener = one(objects, "StatefulSet", "streamgauge-listener")
    replicas = listener["spec"]["replicas"]
    shards = []
    for ordinal in range(replicas):
        own = settings_of(objects, listener, monkeypatch, tmp_path, ordinal)[-1]
        assert isinstance(own, ListenerSettings)
        shards.append(own.shard)
    assert shards == [(number, replicas) for number in range(replicas)]


@each_overlay
def test_pods_meet_the_restricted_standard(overlay: str) -> None:
    """Every pod: not root, no way to more rights, no capability; ours have a read-only root and no account's token."""
    for workload in workloads(rendered(overlay)):
        security = container(workload)["securityContext"]
        assert pod(workload)["securityContext"]["runAsNonRoot"] is True
        assert pod(workload)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (security["allowPrivilegeEscalation"], security["capabilities"]) == (False, {"drop": ["ALL"]})
        assert pod(workload)["automountServiceAccountToken"] is False
        assert pod(workload)["enableServiceLinks"] is False
        assert container(workload)["resources"]["limits"]["memory"]
        if workload in ours(rendered(overlay)):
            assert security["readOnlyRootFilesystem"] is True


@each_overlay
def test_secrets_are_references(overlay: str) -> None:
    """No overlay holds a Secret, or a password as a value."""
    objects = rendered(overlay)
    assert not of_kind(objects, "Secret")
    for workload in workloads(objects):
        for variable in container(workload).get("env", []):
            assert variable["name"].endswith("_FILE") or "PASSWORD" not in variable["name"] or "value" not in variable
    assert not any("PASSWORD" in name for config in of_kind(objects, "ConfigMap") for name in config["data"])


@each_overlay
def test_probes_ask_the_port_that_is_served(overlay: str) -> None:
    """Worker and listener, by their own settings' default."""
    objects = rendered(overlay)
    for kind, name, settings in (
        ("Deployment", "streamgauge-worker", WorkerSettings),
        ("StatefulSet", "streamgauge-listener", ListenerSettings),
    ):
        served = container(one(objects, kind, name))
        assert served["ports"] == [{"name": "metrics", "containerPort": settings.model_fields["http_port"].default}]
        asked = {probe: served[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {probe: (get["path"], get["port"]) for probe, get in asked.items()} == {
            "startupProbe": ("/livez", "metrics"),
            "readinessProbe": ("/readyz", "metrics"),
            "livenessProbe": ("/livez", "metrics"),
        }


@each_overlay
def test_a_worker_has_time_to_drain_and_the_memory_it_may_need(overlay: str) -> None:
    """By the code's own budgets, and by ARCHITECTURE's formula with all partitions in one replica."""
    objects = rendered(overlay)
    worker = one(objects, "Deployment", "streamgauge-worker")
    settings, topics = WorkerSettings(model_slots=1), TopicSettings()
    grace_s = pod(worker)["terminationGracePeriodSeconds"]
    assert grace_s >= 2 * (settings.drain_budget_s + REBALANCE_MARGIN_S)
    resources = container(worker)["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["cpu"] == "1"
    most_bytes = most_memory_bytes(settings, partitions(objects), topics.max_message_bytes)
    assert int(resources["limits"]["memory"].removesuffix("Mi")) * 2**20 > most_bytes


def partitions(objects: tuple[Object, ...]) -> int:
    """As the job makes them."""
    command = container(one(objects, "Job", "streamgauge-topics"))["command"]
    return int(command[command.index("--partitions") + 1])


def test_autoscalers_stop_at_the_partitions() -> None:
    """A replica more would be idle; the topic and the variables that KEDA reads are those of the worker."""
    for overlay in ("production", "strimzi"):
        objects = rendered(overlay)
        scaler = one(objects, "ScaledObject", "streamgauge-worker")["spec"]
        worker = one(objects, "Deployment", "streamgauge-worker")
        kafka = scaler["triggers"][0]["metadata"]
        variables = environment(objects, worker)
        assert scaler["maxReplicaCount"] == partitions(objects)
        assert kafka["topic"] == f"{variables['STREAMGAUGE_TOPIC_PREFIX']}.input"
        assert {kafka["bootstrapServersFromEnv"], kafka["consumerGroupFromEnv"]} <= set(variables)
        login = one(objects, "TriggerAuthentication", "streamgauge-worker")["spec"]
        assert {each["name"] for each in login["env"]} <= set(variables)
        secrets = {volume["secret"]["secretName"] for _path, volume in mounts(worker) if "secret" in volume}
        assert {each["name"] for each in login["secretTargetRef"]} <= secrets
        assert variables["STREAMGAUGE_KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
        assert kafka["sasl"] == "scram_sha512"
        assert "replicas" not in worker["spec"]
    objects = rendered("hpa")
    assert one(objects, "HorizontalPodAutoscaler", "streamgauge-worker")["spec"]["maxReplicas"] == partitions(objects)


def test_strimzis_topics_are_ours() -> None:
    """What its operator makes leaves `streamgauge topics create` nothing to change."""
    objects = rendered("strimzi")
    made = {
        topic["metadata"]["name"]: (topic["spec"]["partitions"], topic["spec"]["config"])
        for topic in of_kind(objects, "KafkaTopic")
    }
    wanted = desired(TopicSettings(), partitions(objects), 3, {})
    assert made == {topic.name: (topic.partitions, topic.config) for topic in wanted}


def test_strimzis_users_have_the_rights_that_we_print() -> None:
    """No more and no fewer; the job's user finds the topics made."""
    topics, group = TopicSettings(), "streamgauge"
    wanted = {
        "streamgauge-worker": rights.worker(topics, group),
        "streamgauge-listener": rights.listener(topics, group),
        "streamgauge-topics": rights.looking(topics, group),
    }
    for user in of_kind(rendered("strimzi"), "KafkaUser"):
        printed = yaml.safe_load("\n".join(rights.as_strimzi(wanted.pop(user["metadata"]["name"]))))
        assert user["spec"]["authorization"]["acls"] == printed["acls"]
    assert not wanted


@each_overlay
def test_what_selects_pods_finds_them(overlay: str) -> None:
    """Budgets, services and policies each select pods of this overlay; the policy for our pods selects them all."""
    objects = rendered(overlay)
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(objects)]
    selectors = {each["metadata"]["name"]: each["spec"]["selector"] for each in of_kind(objects, "Service")}
    for kind, where in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selectors |= {each["metadata"]["name"] + kind: each["spec"][where] for each in of_kind(objects, kind)}
    for name, selector in selectors.items():
        labels = selector.get("matchLabels", selector)
        assert any(labels.items() <= own.items() for own in pods), name
    policy = one(objects, "NetworkPolicy", "streamgauge")["spec"]["podSelector"]["matchLabels"]
    for workload in ours(objects):
        assert policy.items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_prometheus_scrapes_under_the_names_that_the_rules_know() -> None:
    """The job of a pod is its label; `test_configuration` holds these names against the stack's Prometheus."""
    objects = rendered("production")
    monitor = one(objects, "PodMonitor", "streamgauge")["spec"]
    [expression] = monitor["selector"]["matchExpressions"]
    scraped = {
        workload["spec"]["template"]["metadata"]["labels"][monitor["jobLabel"]]
        for workload in ours(objects)
        if workload["spec"]["template"]["metadata"]["labels"].get(expression["key"]) in expression["values"]
    }
    assert scraped == {"streamgauge-worker", "streamgauge-listener"}


def test_rules_and_dashboards_are_all_there() -> None:
    """As files hold them, but for the one alert that does not fit replicas which come and go as planned."""
    objects = rendered("production")
    rules = [
        rule.get("alert") or rule["record"]
        for found in of_kind(objects, "PrometheusRule")
        for group in found["spec"]["groups"]
        for rule in group["rules"]
    ]
    folder = KUBERNETES.parents[1] / "dashboards"
    in_files = [
        rule.get("alert") or rule["record"]
        for path in sorted((folder / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert sorted(rules) == sorted(set(in_files) - {"StreamgaugeFewerWorkers"})
    boards = one(objects, "ConfigMap", "streamgauge-dashboards")
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert boards["data"] == {path.name: path.read_text() for path in folder.glob("*.json")}


@pytest.mark.parametrize("component", MODEL_COMPONENTS)
def test_a_model_of_ones_own(component: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker's setting names a directory in the volume, mounted read-only; the newest cluster takes it."""
    objects = with_component(component, tmp_path)
    assert [refusal(found, NEWEST) for found in objects] == [None] * len(objects)
    worker = one(objects, "Deployment", "streamgauge-worker")
    own = settings_of(objects, worker, monkeypatch, tmp_path)[-1]
    assert isinstance(own, WorkerSettings)
    [(path, _volume)] = list(mounts(worker))
    assert own.model_dir.is_relative_to(path)
    assert container(worker)["volumeMounts"][0]["readOnly"] is True
