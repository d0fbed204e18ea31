"""What a person types, key by key where that is wanted."""

import asyncio
import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

READ_BYTES = 1024


@contextmanager
def keys(keyboard: int, *, is_single: bool) -> Iterator[None]:
    """Each key by itself and unseen, or lines; what was typed before is thrown away. Signals come as ever.

    `keyboard`: the file descriptor of a terminal.
    """
    before = termios.tcgetattr(keyboard)
    termios.tcflush(keyboard, termios.TCIFLUSH)
    try:
        if is_single:
            tty.setcbreak(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


async def typed(keyboard: int) -> bytes:
    """What comes next; empty at the end of input."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(keyboard, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(keyboard)
    return os.read(keyboard, READ_BYTES)
