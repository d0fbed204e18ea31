"""`streamgauge`, or `python -m streamgauge`: the command line."""

import os
import signal
from types import FrameType


def main(argv: list[str] | None = None) -> None:
    """Run a command, and end the process. Until the command has something to close, a signal ends it at once.

    By a handler, from the first moment on: what runs in a container as process 1 gets no signal that has none.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from streamgauge.commands.cli import main as run

    run(argv)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
