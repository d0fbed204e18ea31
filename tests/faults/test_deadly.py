"""A record that kills every process which scores it, and the way past it."""

import asyncio
import json
import os
import signal
import sys

import msgspec
import pytest

from streamgauge.events import Reason
from tests.cluster import ROOT, Kafka, Stream
from tests.faults.deadly_process import DEADLY_WORDS
from tests.faults.worker_process import AUDIT_SHARE, Plan
from tests.oracle import Input, generate, judge
from worker.skip import skip

pytestmark = pytest.mark.faults

CAREFUL = {"model_slots": 1, "max_batch_tokens": 8, "session_timeout_s": 3}


async def start(stream: Stream) -> asyncio.subprocess.Process:
    plan = Plan(
        bootstrap_servers=stream.kafka.bootstrap_servers,
        prefix=stream.topics.prefix,
        group=stream.group,
        instance="careful",
        settings=CAREFUL,
    )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.deadly_process",
        msgspec.json.encode(plan).decode(),
        cwd=ROOT,
        env=os.environ | {"STREAMGAUGE_LOG_LEVEL": "debug"},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_skip_gets_a_group_past_a_deadly_record(kafka: Kafka) -> None:
    """The last line of a careful worker names the record; skipped, it is a dead letter, and all others have results."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    before, after = generate(40, seed=41), generate(40, seed=42)
    inputs = await stream.publish([*before, Input(b"w " * DEADLY_WORDS, Reason.SKIPPED), *after])
    for _attempt in range(2):
        process = await start(stream)
        log = (await process.communicate())[1].decode()
        assert process.returncode == -signal.SIGSEGV
    suspects = [json.loads(line)["records"] for line in log.splitlines() if '"batch.scoring"' in line][-1]
    assert suspects == ["0:40"]
    await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:{suspects[0]}")
    process = await start(stream)
    outputs = await stream.outputs(at_least=len(inputs))
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
    assert judge(inputs, outputs, AUDIT_SHARE).is_clean
