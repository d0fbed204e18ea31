"""What a newcomer sees of `make demo` before it runs: one line that moves, or why it cannot be installed."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from infra.installing import main, watched
from tests.cluster import ROOT

PIP = """\
#!/bin/sh
echo "$*" >>calls
echo "Collecting aiokafka==0.14.0 (from -r lock (line 1))"
echo "  Downloading aiokafka.whl"
echo "Requirement already satisfied: rich==15.0 in somewhere"
echo "Installing collected packages: aiokafka"
"""
LOCK = """\
aiokafka==0.14.0 \\
    --hash=sha256:00
rich==15.0 \\
    --hash=sha256:00
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:00
watchdog==7.1.0 ; sys_platform != 'win32' \\
    --hash=sha256:00
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose pip is a stand-in, in the folder that is worked in, with a lock."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "lock").write_text(LOCK)
    (tmp_path / "bin" / "python").write_text(PIP)
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


def test_two_lines_in_a_pipe(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How much comes, and where the command is then; nothing but the lock is installed, and its hashes count."""
    assert main(environment, environment / "lock") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"installing 3 packages of {environment}/lock into {environment}"
    assert last == f"installed in 0 s; the command is {environment}/bin/streamgauge"
    of_lock, of_project = (environment / "calls").read_text().splitlines()
    assert f"--require-hashes --only-binary :all: --requirement {environment}/lock" in of_lock
    assert of_project.endswith("--no-deps --no-build-isolation --editable .")


def test_one_line_on_a_terminal(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which package it is at, and is gone at the end."""
    code, said = watched([f"{environment}/bin/python"], 2, is_terminal=True)
    shown = [part.strip() for part in capsys.readouterr().out.split("\r")]
    assert (code, said.count("\n")) == (0, 4)
    assert list(dict.fromkeys(shown)) == [
        "",
        "1 of 2 packages: aiokafka",
        "2 of 2 packages: rich",
        "2 of 2 packages: installing them",
    ]
    assert shown[-1] == ""


def test_all_that_pip_said_of_a_failure(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And its exit code, so that make does not go on."""
    with (environment / "bin" / "python").open("a") as program:
        program.write("echo 'ERROR: no matching distribution' >&2\nexit 3\n")
    assert main(environment, environment / "lock") == 3
    assert "Downloading aiokafka.whl" in (told := capsys.readouterr().err)
    assert "ERROR: no matching distribution" in told


def test_ctrl_c_is_one_line(environment: Path) -> None:
    """No traceback of ours; what was begun is done again by the next call, since make has no file of it yet."""
    with (environment / "bin" / "python").open("a") as program:
        program.write("kill -INT $PPID\n")
    command = [sys.executable, str(ROOT / "infra/installing.py"), str(environment), "lock"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whatever started the tests
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=heard)
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted: the same command goes on with it")


def test_an_old_python_is_refused_by_its_version(tmp_path: Path) -> None:
    """Before pip finds nothing that fits together."""
    for name in ("Makefile", "pyproject.toml", "infra/locks/demo.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "python3.10"
    program = "import sys; sys.version_info = (3, 10, 12); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{program}" "$@"\n')
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        f"needs Python 3.11 or later, and {old} is 3.10. Name another one: make PYTHON=python3.12 demo" in done.stderr
    )
    assert not (tmp_path / ".venv").exists()
