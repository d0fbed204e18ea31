"""The manifests as kustomize renders them, and what a container of them would find in its environment."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ROOT

KUBERNETES = ROOT / "infra" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
MODEL_COMPONENTS = ("model-image", "model-volume")
Object = dict[str, Any]

KUSTOMIZE = os.environ.get("KUSTOMIZE") or shutil.which("kustomize")
needs_kustomize = pytest.mark.skipif(
    KUSTOMIZE is None,
    reason="kustomize is not installed, NO MANIFEST IS TESTED: "
    "go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.0, or name the program in KUSTOMIZE",
)


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """All objects of an overlay."""
    return _built(KUBERNETES / "overlays" / overlay)


def with_component(name: str, folder: Path) -> tuple[Object, ...]:
    """All objects of the base with one component; `folder` is empty, and takes what kustomize needs."""
    base, component = (os.path.relpath(KUBERNETES / part, folder) for part in ("base", f"components/{name}"))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [base], "components": [component]}))
    return _built(folder)


def _built(folder: Path) -> tuple[Object, ...]:
    assert KUSTOMIZE
    done = subprocess.run([KUSTOMIZE, "build", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def one(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    [found] = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def workloads(objects: tuple[Object, ...]) -> list[Object]:
    """What makes pods, those of the overlay's own Kafka too."""
    return of_kind(objects, "Deployment", "StatefulSet", "Job")


def pod(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Object) -> Object:
    [found] = pod(workload)["containers"]
    assert isinstance(found, dict)
    return found


def ours(objects: tuple[Object, ...]) -> list[Object]:
    """The workloads that run Streamgauge."""
    return [each for each in workloads(objects) if container(each).get("command", [""])[0] == "streamgauge"]


def environment(objects: tuple[Object, ...], workload: Object, ordinal: int = 0) -> dict[str, str]:
    """A container's variables as the kubelet makes them; what a Secret holds is `a secret`."""
    found: dict[str, str] = {}
    for source in container(workload).get("envFrom", []):
        [config] = [
            each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        found |= config["data"]
    for variable in container(workload).get("env", []):
        found[variable["name"]] = _value(variable, found, ordinal)
    return found


def _value(variable: Object, before: Mapping[str, str], ordinal: int) -> str:
    match variable:
        case {"value": str(value)}:
            # Only what stands before it is known; the rest is left as it is.
            return re.sub(r"\$\((\w+)\)", lambda found: before.get(found[1], found[0]), value)
        case {"valueFrom": {"secretKeyRef": {"name": str(), "key": str()}}}:
            return "a secret"
        case {"valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}}:
            return str(ordinal)
    raise AssertionError(f"no value is known for {variable}")


def mounts(workload: Object) -> Iterator[tuple[str, Object]]:
    """Each mounted path, with its volume."""
    volumes = {volume["name"]: volume for volume in pod(workload).get("volumes", [])}
    claims = {claim["metadata"]["name"]: claim for claim in workload["spec"].get("volumeClaimTemplates", [])}
    for mount in container(workload).get("volumeMounts", []):
        yield mount["mountPath"], (volumes | claims)[mount["name"]]
