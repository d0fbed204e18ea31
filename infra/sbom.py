"""The image's bill of materials, in CycloneDX's JSON: `python -m infra.sbom FILE`, or `make sbom`.

Its locked packages with their licences and the model's files; what only `make demo` has besides, packages and Kafka's
jars, is marked as optional. The base image's own packages are missing: the base is named by whoever builds the image.
Time and serial number are missing too, so that the same project gives the same bytes.
"""

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streamgauge.broker.jars import KAFKA_VERSION, read_lock

ROOT = Path(__file__).resolve().parents[1]
IMAGE, DEMO = ROOT / "infra" / "docker" / "requirements.txt", ROOT / "infra" / "locks" / "demo.txt"
MODEL = ROOT / "worker" / "default_model"
# Markers are read for one machine, so that the file is the same wherever it is made.
LINUX = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}
# What metadata says in its own words, as SPDX says it. Which BSD licence a classifier means is not known.
SPDX = {
    "2-clause BSD": "BSD-2-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Dual License": "",  # which two, the classifiers tell
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
}


def locked(path: Path) -> dict[str, str]:
    """Versions by name, of those packages of a lock that Linux needs."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]+", path.read_text(encoding="utf-8"), re.MULTILINE)
    taken = [line for line in map(Requirement, lines) if line.marker is None or line.marker.evaluate({**LINUX})]
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in taken}


def licence(name: str) -> str:
    """An installed package's licence as its metadata has it, in SPDX's words where these are known; else "unknown".

    A field that holds a whole text says nothing that can be compared, and the classifier is taken. Raises
    importlib.metadata.PackageNotFoundError.
    """
    fields = metadata.metadata(name)
    classifiers = [line.split(" :: ")[-1] for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    exact, legacy = ("".join(fields.get_all(field, [])).strip() for field in ("License-Expression", "License"))
    words = exact or ("" if "\n" in legacy else legacy)
    return SPDX.get(words, words) or " AND ".join(SPDX.get(word, word) for word in classifiers) or "unknown"


def components() -> Iterator[Component]:
    """Packages, model, jars."""
    image = locked(IMAGE)
    for name, version in {**locked(DEMO), **image}.items():
        yield _component(
            name,
            version,
            purl=PackageURL("pypi", None, name, version),
            licenses=[LicenseFactory().make_from_string(licence(name))],
            scope=ComponentScope.REQUIRED if name in image else ComponentScope.OPTIONAL,
        )
    for path in sorted(MODEL.iterdir()):
        kind = ComponentType.MACHINE_LEARNING_MODEL if path.suffix == ".onnx" else ComponentType.FILE
        yield _component(path.relative_to(ROOT).as_posix(), None, type=kind, hashes=_sha256(_digest(path)))
    for jar in read_lock(KAFKA_VERSION).jars:
        group, name, version = jar.coordinate.split(":")
        purl = PackageURL("maven", group, name, version)
        yield _component(
            name, version, group=group, purl=purl, hashes=_sha256(jar.sha256), scope=ComponentScope.OPTIONAL
        )


def _component(name: str, version: str | None, **fields: Any) -> Component:
    """With a reference that is the same each time."""
    return Component(name=name, version=version, bom_ref=str(fields.get("purl", name)), **fields)


def _sha256(digest: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def document() -> str:
    """CycloneDX 1.6, the same bytes each time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bom = Bom(components=components())
    bom.metadata.component = _component(
        project["name"],
        project["version"],
        type=ComponentType.APPLICATION,
        licenses=[LicenseFactory().make_from_string(project["license"])],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    fields = json.loads(JsonV1Dot6(bom).output_as_string())
    del fields["serialNumber"], fields["metadata"]["timestamp"]
    return json.dumps(fields, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m infra.sbom FILE")
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(document(), encoding="utf-8")
