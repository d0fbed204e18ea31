"""The code blocks of a page as a reader meets them, and how they are run.

| a block | what is done with it |
|---|---|
| `sh` | run by one shell, all of a page in their order |
| with `title="NAME"` | written to that file, as the reader is told to |
| `text` after `sh` | its lines are among what that printed, in this order; `…` stands for anything |
| under `<!-- needs: java -->` | left out where there is no such program; then the test says so |
| under `<!-- not run: WHY -->` | left out |

Others are not allowed: a page has no block of which nobody knows whether it works.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>needs|not run): (?P<words>[^\n]+) -->\n\n?)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
BETWEEN = "@@ block "


class Block(NamedTuple):
    """`line`: where it begins in its page, for messages."""

    line: int
    language: str
    title: str | None
    text: str
    needs: Sequence[str]
    is_run: bool
    prints: str | None

    @property
    def is_missing(self) -> bool:
        return not all(map(shutil.which, self.needs))


def blocks_of(page: str) -> list[Block]:
    """All blocks; those that show what another one prints are part of that. Raises ValueError for one of no kind."""
    found: list[Block] = []
    for match in BLOCK.finditer(page):
        line, mark, words = page.count("\n", 0, match.start("language")) + 1, match["mark"], match["words"] or ""
        language, title = match["language"], match["title"]
        needs = words.split() if mark == "needs" else []
        block = Block(line, language, title, match["text"], needs, mark != "not run", None)
        if not block.is_run or title or language == "sh":
            found.append(block)
        elif language == "text" and found and found[-1].language == "sh" and found[-1].is_run:
            found[-1] = found[-1]._replace(prints=block.text)
        else:
            raise ValueError(f"line {line}: a block that is neither run nor marked")
    return found


def run_blocks(
    blocks: Sequence[Block],
    folder: Path,
    environment: Mapping[str, str],
    actual: Mapping[str, str],
    timeout_s: float = 600,
) -> list[str]:
    """Run a page's blocks in `folder`; returns what is wrong. `actual`: what stands for words of the page here."""
    taken = [block for block in blocks if block.is_run and not block.is_missing]
    script = ["set -euo pipefail", "trap 'jobs -rp | xargs -r kill || true; wait' EXIT"]
    for number, block in enumerate(taken):
        text = _here(block.text, actual)
        if block.title:
            (folder / block.title).write_text(text, encoding="utf-8")
        else:
            script += [f"echo '{BETWEEN}{number}'", text]
    (folder / "page.sh").write_text("\n".join(script), encoding="utf-8")
    code, output = _run(folder, environment, timeout_s)
    parts = re.split(rf"^{BETWEEN}(\d+)\n", output, flags=re.MULTILINE)
    printed = {int(number): part for number, part in zip(parts[1::2], parts[2::2], strict=True)}
    wrong = [
        f"line {block.line}: not printed: {line}"
        for number, block in enumerate(taken)
        for line in missing_lines(_here(block.prints or "", actual), printed.get(number, ""))
    ]
    if code:
        at = taken[max(printed)].line if printed else 0
        wrong.insert(0, f"the block at line {at} ended with {code}:\n{(folder / 'errors').read_text()[-3000:]}")
    return wrong


def missing_lines(expected: str, printed: str) -> list[str]:
    """Those lines that do not come, each after the one before it."""
    lines = iter(printed.splitlines())
    return [
        line
        for line in expected.splitlines()
        if not any(re.fullmatch(re.escape(line).replace("…", ".*"), given) for given in lines)
    ]


def _here(text: str, actual: Mapping[str, str]) -> str:
    """Ports and topics of this run. Longer numbers that hold a port's are left alone."""
    for word, stands_for in actual.items():
        text = re.sub(rf"(?<![\w.]){re.escape(word)}(?!\d)", stands_for, text)
    return text


def _run(folder: Path, environment: Mapping[str, str], timeout_s: float) -> tuple[int | str, str]:
    """How it ended, and standard output. The shell ends what the page leaves running; else all of it is killed."""
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        shell = subprocess.Popen(
            ["bash", "page.sh"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            ended: int | str = shell.wait(timeout_s)
        except subprocess.TimeoutExpired:
            ended = "no end"
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
    return ended, (folder / "output").read_text(encoding="utf-8", errors="replace")
