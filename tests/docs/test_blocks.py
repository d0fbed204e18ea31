"""Every code block of the documentation, run as a reader would, page by page; and what the runner must notice."""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from streamgauge.broker.jars import class_path
from tests.cluster import ROOT, Kafka
from tests.docs.blocks import blocks_of, missing_lines, run_blocks
from tests.secured.broker import LONG_SESSION_MS, PASSWORD, secured_kafka

FOLDER = ROOT / "docs"
LINKED = ("dashboards", "infra", "producer")
"""What of the project's folder a page's blocks read."""
PORTS = ("9092", "8001", "8002", "8003", "9090")
STREAMGAUGE = [sys.executable, "-m", "streamgauge"]
WITH_OWN_KAFKA = {"tutorial.md", "how-to/managed-kafka.md"}
PAGES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.md"))

pytestmark = pytest.mark.timeout(720)


class Place(NamedTuple):
    """Where a page is followed: its settings, and what stands for words of the page."""

    environment: Mapping[str, str]
    actual: Mapping[str, str]


def place(**settings: str) -> Place:
    """As a reader's: commands are on the path, and nothing is set but what keeps this run apart from others."""
    with ExitStack() as held:
        probes = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in PORTS}
        ports = {name: str(probe.getsockname()[1]) for name, probe in probes.items()}
    own = {name: value for name, value in os.environ.items() if not name.startswith("STREAMGAUGE_")}
    set_here = {
        "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
        "PYTHONPATH": str(ROOT),
        "STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS": f"localhost:{ports['9092']}",
        "STREAMGAUGE_WORKER_HTTP_PORT": ports["8001"],
        "STREAMGAUGE_LISTENER_HTTP_PORT": ports["8002"],
    }
    return Place(own | set_here | settings, ports)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """It looks like the project's, with Kafka's client for Java beside it, and may be written to."""
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "libs").symlink_to(class_path(None, print)[0].parent)
    return tmp_path


@pytest.fixture(scope="module")
def stack(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker and a listener on topics of their own, as the tutorial starts them."""
    logs, prefix = tmp_path_factory.mktemp("stack"), f"docs{uuid.uuid4().hex[:8]}"
    here = place(
        STREAMGAUGE_TOPIC_PREFIX=prefix,
        STREAMGAUGE_WORKER_GROUP=prefix,
        STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        STREAMGAUGE_LISTENER_STORE=str(logs / "listener.sqlite"),
    )
    subprocess.run([*STREAMGAUGE, "topics", "create", "--partitions", "2"], env=dict(here.environment), check=True)
    with ExitStack() as services:
        for service in ("worker", "listen"):
            log = services.enter_context((logs / service).open("wb"))
            process = subprocess.Popen([*STREAMGAUGE, service], env=dict(here.environment), stderr=log)
            services.callback(process.wait)
            services.callback(process.terminate)
        for service in ("worker", "listener"):
            while subprocess.run([*STREAMGAUGE, "probe", service], env=dict(here.environment), check=False).returncode:
                time.sleep(0.2)
        port = kafka.bootstrap_servers.rpartition(":")[2]
        yield Place(here.environment, {**here.actual, "9092": port, "sentiment.": f"{prefix}."})


def follow(page: str, folder: Path, here: Place) -> None:
    """Run a page; say what was left out."""
    blocks = blocks_of((FOLDER / page).read_text(encoding="utf-8"))
    if wrong := run_blocks(blocks, folder, here.environment, here.actual):
        pytest.fail(f"{page}: " + "\n".join(wrong), pytrace=False)
    missing = {name for block in blocks for name in block.needs if not shutil.which(name)}
    if missing:
        pytest.skip(f"NOT PROVEN: without {', '.join(sorted(missing))} only the other blocks of {page} were run")


def test_the_tutorial(folder: Path) -> None:
    """All seven steps, with a Kafka of its own."""
    here = place(STREAMGAUGE_LISTENER_STORE=str(folder / "listener.sqlite"))
    follow("tutorial.md", folder, here._replace(actual={**here.actual, "5s": "1s"}))  # Prometheus' intervals


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITH_OWN_KAFKA])
def test_a_page(page: str, folder: Path, stack: Place) -> None:
    """What it says works, and prints what it says."""
    follow(page, folder, stack)


def test_managed_kafka(folder: Path, tmp_path_factory: pytest.TempPathFactory, kafka_version: str) -> None:
    """On a Kafka with TLS, SCRAM and access rules in the place of a provider's."""
    with secured_kafka(tmp_path_factory.mktemp("secured"), kafka_version, LONG_SESSION_MS) as secured:
        (folder / "password").write_text(PASSWORD)
        shutil.copy(secured.identities.authority, folder / "ca.pem")
        here = place()
        actual = {**here.actual, "kafka.example.com:9093": secured.server("LOGIN")}
        follow("how-to/managed-kafka.md", folder, Place(here.environment, actual))


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("```sh\nfalse\n```\n", "the block at line 1 ended with 1"),
        ("```sh\necho a\n```\n\n```text\nb\n```\n", "line 1: not printed: b"),
        ("```sh\necho a\necho b\n```\n\n```text\nb\na\n```\n", "line 1: not printed: a"),
        ("```sh\nno-such-command 2>/dev/null; echo\n```\n", "the block at line 1 ended with 127"),
        ("```sh\nsleep 60\n```\n", "the block at line 1 ended with no end"),
    ],
)
def test_a_wrong_page_is_noticed(page: str, wrong: str, tmp_path: Path) -> None:
    """The control: a command that fails, one that prints something else or in another order, one that does not end."""
    found = run_blocks(blocks_of(page), tmp_path, os.environ, {}, timeout_s=2 if "sleep" in page else 60)
    assert [each.split(":\n")[0] for each in found] == [wrong]


def test_a_page_is_run_as_it_is_read(tmp_path: Path) -> None:
    """Files are written, ports are those of the run, what is marked is left out, what was started is ended."""
    page = (
        '```python title="a.py"\nprint("port 8001, not 18001")\n```\n\n```sh\nsleep 60 &\npython a.py\n```\n\n'
        "```text\nport 8001, … 18001\n```\n\n<!-- needs: no-such-program -->\n```sh\nno-such-program\n```\n\n"
        "<!-- not run: it would fail -->\n```sh\nfalse\n```\n"
    )
    assert run_blocks(blocks_of(page), tmp_path, place().environment, {"8001": "41"}) == []
    assert (tmp_path / "output").read_text() == "@@ block 1\nport 41, not 18001\n"


def test_a_block_of_no_kind_is_refused() -> None:
    """Nobody would know whether it works."""
    for page in ("```yaml\na: 1\n```\n", "```text\nout of nowhere\n```\n"):
        with pytest.raises(ValueError, match="neither run nor marked"):
            blocks_of(page)


def test_printed_lines_are_looked_for_in_order() -> None:
    """An ellipsis is anything; other signs are themselves."""
    assert missing_lines("a … (c)\nd", "x\na b (c)\nd\n") == []
    assert missing_lines("a.c", "abc") == ["a.c"]
