"""A command at a terminal of its own, as a person sits there: what it shows, what is typed, how it ends."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)
"""Ctrl-C is a signal only where the terminal controls the process."""


class Seat:
    """One end of the terminal; the process has the other."""

    def __init__(self, process: subprocess.Popen[str], end: int) -> None:
        self.process, self._end, self._unread = process, end, ""

    def until(self, part: str) -> str:
        """What is shown up to this part; fails when the command ends before."""
        while part not in self._unread:
            try:
                came = os.read(self._end, 65_536)
            except OSError:  # the process has closed its end
                came = b""
            assert came, (part, self._unread, self.process.communicate()[1])
            self._unread += came.decode()
        found, self._unread = self._unread.split(part, 1)
        return found

    def attributes(self) -> object:
        """How the terminal is set: echo, single keys."""
        return termios.tcgetattr(self._end)

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error, which is no terminal. The test's own timeout bounds the wait."""
        _output, errors = self.process.communicate()
        return self.process.returncode, errors


@contextmanager
def at_terminal(arguments: list[str], environment: dict[str, str], *, errors_are_shown: bool = False) -> Iterator[Seat]:
    """`streamgauge` with these arguments; `errors_are_shown`: standard error is the terminal too, as it mostly is."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, sys.executable, "-m", "streamgauge", *arguments],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if errors_are_shown else subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Seat(process, ours)
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
        os.close(ours)
