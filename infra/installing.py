"""Install what a lock names into a virtual environment, and this project with it: one line instead of pip's hundreds.

    .venv/bin/python infra/installing.py .venv infra/locks/demo.txt

Nothing but what is locked, the project's build included; no source is built but ours. Run by the environment's Python;
needs nothing but that.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pip._vendor.packaging.markers import Marker

PACKAGE = re.compile(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)==")
LOCKED = re.compile(r"^[\w.-]+==[^\s;]+(?: ; (?P<marker>.+?))? \\$", re.MULTILINE)
WIDTH = 60


def pip(environment: Path, *arguments: str) -> list[str]:
    """A call of the environment's pip."""
    return [f"{environment}/bin/python", "-m", "pip", "--disable-pip-version-check", "install", *arguments]


def watched(command: Sequence[str], total: int, *, is_terminal: bool) -> tuple[int, str]:
    """Run pip, and say on one line of a terminal which package it is at; its exit code, and all that it printed."""
    said: list[str] = []
    seen: dict[str, None] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if found := PACKAGE.match(line):
                seen[found[1]] = None
            what = "installing them" if line.startswith("Installing collected") else next(reversed(seen), "")
            if is_terminal:
                print(f"\r  {len(seen)} of {total} packages: {what}"[:WIDTH].ljust(WIDTH), end="", flush=True)
    if is_terminal:
        print("\r" + " " * WIDTH + "\r", end="", flush=True)
    return process.returncode, "".join(said)


def main(environment: Path, lock: Path) -> int:
    """Install; returns pip's exit code, after all that pip said where that is not 0."""
    began_s = time.monotonic()
    markers = [found["marker"] for found in LOCKED.finditer(lock.read_text(encoding="utf-8"))]
    # A line with a marker may be meant for other systems.
    total = sum(marker is None or Marker(marker).evaluate() for marker in markers)
    print(f"installing {total} packages of {lock} into {environment}", flush=True)
    for command in (
        pip(environment, "--require-hashes", "--only-binary", ":all:", "--requirement", str(lock)),
        pip(environment, "--no-deps", "--no-build-isolation", "--editable", "."),
    ):
        code, said = watched(command, total, is_terminal=sys.stdout.isatty())
        if code:
            print(said, file=sys.stderr)
            return code
    print(f"installed in {time.monotonic() - began_s:.0f} s; the command is {environment}/bin/streamgauge")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on with it", file=sys.stderr)
        sys.exit(130)
