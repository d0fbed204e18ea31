"""Makes `top.svg`, the README's picture of `streamgauge top`, from a real run of some minutes.

    python -m infra.pictures.top

The demo plays its sample, and a second worker shares its work. The view is that of the command.
"""

import asyncio
import io
import os
import re
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from streamgauge.commands.top.view import Frame
from streamgauge.commands.top.watching import Sources, Watch
from streamgauge.settings import KafkaSettings, TopicSettings

PICTURE = Path(__file__).with_suffix(".svg")
COLUMNS = 120
RUN_S = 240.0
RATE_PER_S = "30"
SETTINGS = {
    "STREAMGAUGE_WORKER_AUDIT_SHARE": "0.2",
    "STREAMGAUGE_WORKER_MODEL_SLOTS": "1",
    "STREAMGAUGE_LISTENER_AUDIT_HORIZON_HOURS": "0.02",
}
"""So that some minutes of the audit mature meanwhile."""
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without fonts to be fetched: who looks at the README asks nobody else for anything."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def started(output: int, *command: str, **settings: str) -> AsyncIterator[Process]:
    """A command of ours in the background, ended as Ctrl-C ends it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamgauge", *command),
        env=os.environ | SETTINGS | settings,
        stdout=output,
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()


async def kafka_of(demo: Process) -> KafkaSettings:
    """The demo's, as soon as there are results."""
    assert demo.stdout
    address = ""
    async for line in demo.stdout:
        if match := re.search(rb"ready at (\S+);", line):
            address = match[1].decode()
        if re.search(rb"results [1-9]", line):
            return KafkaSettings(bootstrap_servers=address)
    raise RuntimeError("the demo has ended")


async def read_on(process: Process) -> None:
    """So that it can go on writing."""
    assert process.stdout
    async for _line in process.stdout:
        pass


async def main() -> None:
    ports = [str(free_port()) for _ in range(2)]
    here, beside = (f"http://localhost:{port}" for port in ports)
    demo_command = ("demo", "--rate", RATE_PER_S, "--http-port", ports[0])
    async with started(PIPE, *demo_command, STREAMGAUGE_WORKER_INSTANCE="worker-1") as demo:
        kafka = await kafka_of(demo)
        worker = ("worker", "-b", kafka.bootstrap_servers, "--http-port", ports[1])
        watch = Watch(kafka, TopicSettings(), "streamgauge", Sources([here, beside], [here], with_texts=True))
        async with started(DEVNULL, *worker, STREAMGAUGE_WORKER_INSTANCE="worker-2"), asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(read_on(demo)), tasks.create_task(watch.run())]
            await asyncio.sleep(RUN_S)
            frame = Frame(watch.known.picture(time.monotonic(), {}), "Streamgauge, localhost:9092", "q ends")
            for task in working:
                task.cancel()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(frame)
    console.save_svg(str(PICTURE), title="streamgauge top --texts", code_format=FORMAT, unique_id="top")


if __name__ == "__main__":
    asyncio.run(main())
