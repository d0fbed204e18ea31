"""Where the worker's CPU goes outside tokenising and the model, stage by stage: `python -m tests.benchmarks.stages`.

The worker on a real Kafka, with the default model; or with `--us-per-token` one that only sleeps, as long as a model
would compute: same pace, but caches that nothing else fills.

Each step of the event loop is charged to its task; what happens inside one of the functions of `STAGES`, to that stage.
The charging itself costs some microseconds a text. What is left of the process's whole is the loop's own work and what
threads do before and after the model.
"""

import argparse
import asyncio
import functools
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import CollectorRegistry

import worker.pipeline
import worker.publish
from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from streamgauge.telemetry import set_up_logging
from tests.benchmarks.measuring import PARTITIONS, Results, publish
from tests.benchmarks.processes import cpu_s, module, shared_out, started
from tests.benchmarks.texts import TEXT_SETS, texts_of
from tests.cluster import Stream
from tests.echo import EchoModel
from worker.backlog import Backlog
from worker.model.scorer import Probabilities, Scorer, TokenIds
from worker.model.session import OnnxModel
from worker.publish import Publisher
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.tenure import Tenure

STAGES: dict[str, Sequence[tuple[Any, str]]] = {
    "parse fetched batches": [(PartitionRecords, "__next__")],
    "decode": [(worker.pipeline, "decode")],
    "credit and order": [(Tenure, "admit"), (Tenure, "finish"), (Tenure, "committed")],
    "cut batches": [(Backlog, "put"), (Backlog, "_cut")],
    "encode results": [(worker.publish, "output_records")],
    "build record batches": [(BatchBuilder, "append"), (BatchBuilder, "close")],
    "metrics": [(worker.pipeline.Pipeline, "_observe"), (Publisher, "_count")],
}
WARM_UP_TEXTS = 400
TOKENISE, MODEL, ALL = "tokenise", "model", "all"
OUTSIDE = "**all of these: outside tokenising and the model**"
TASKS = {
    "fetch in the client": ("Fetcher", "poll", "GroupCoordinator"),
    "send in the client": ("Sender", "MessageAccumulator", "_pop_batch"),
    "requests and responses": ("AIOKafkaC", "_SelectorSocketTransport", "_read_ready", "_call_connection_lost"),
    "transactions": ("partition-", "Transaction", "send_in_order", "send_offsets", "_serve"),
    "intake, inference and their threads' answers": ("intake", "infer", "_read_from_self", "_chain_future"),
    "futures and timeouts": ("_wait", "shield", "gather", "imeout", "_release_waiter", "_set_result"),
}


class SleepingModel(EchoModel):
    """As slow as a model, and no work at all."""

    def __init__(self, us_per_token: float) -> None:
        self._s_per_token = us_per_token / 1e6

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        return [(range(2 + len(text) // 4), False) for text in texts]

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        time.sleep(max(map(len, batch)) * len(batch) * self._s_per_token)
        return np.tile((0.25, 0.75), (len(batch), 1))


class TimedModel:
    """A model that knows how much CPU its threads used."""

    def __init__(self, model: Scorer, account: "Account") -> None:
        self._model, self._account = model, account
        self.ref, self.labels, self.verify = model.ref, model.labels, model.verify

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        began_s = time.thread_time()
        encoded = self._model.encode(texts)
        self._account.spent_s[TOKENISE] += time.thread_time() - began_s
        return encoded

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        began_s = time.thread_time()
        probabilities = self._model.score(batch)
        self._account.spent_s[MODEL] += time.thread_time() - began_s
        return probabilities


class Account:
    """CPU seconds by stage; a stage inside another is charged alone."""

    def __init__(self) -> None:
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since_s = 0.0

    def charge(self, stage: str, call: Callable[[], Any]) -> Any:
        """Call, in the event loop's thread, at this stage's cost."""
        self._enter(stage)
        try:
            return call()
        finally:
            self._leave()

    def collecting(self, phase: str, _info: dict[str, int]) -> None:
        """What the garbage collector calls when it starts and stops."""
        if threading.current_thread() is threading.main_thread():
            if phase == "start":
                self._enter("collect garbage")
            else:
                self._leave()

    def _enter(self, stage: str) -> None:
        self._turn()
        self._stack.append(stage)

    def _leave(self) -> None:
        self._turn()
        self._stack.pop()

    def _turn(self) -> None:
        now_s = time.thread_time()
        if self._stack:
            self.spent_s[self._stack[-1]] += now_s - self._since_s
        self._since_s = now_s

    def watch(self) -> None:
        """Charge every step of every event loop of this process, and the functions of `STAGES`."""
        account, run_handle = self, asyncio.Handle._run

        def charged(self: asyncio.Handle) -> None:
            account.charge(task_of(self._callback), lambda: run_handle(self))  # type: ignore[attr-defined]

        mock.patch.object(asyncio.Handle, "_run", charged).start()
        gc.callbacks.append(self.collecting)
        for stage, functions in STAGES.items():
            for owner, name in functions:
                mock.patch.object(owner, name, self._charging(stage, getattr(owner, name))).start()

    def _charging(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def charged(*args: Any, **kwargs: Any) -> Any:
            return self.charge(stage, lambda: function(*args, **kwargs))

        return charged


def task_of(callback: Any) -> str:
    """Whose step of the event loop this is."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        name = f"{owner.get_name()} {getattr(owner.get_coro(), '__qualname__', '')}"
    else:
        name = getattr(callback, "__qualname__", type(callback).__name__)
    found = (stage for stage, parts in TASKS.items() if any(part in name for part in parts))
    return next(found, "everything else")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the process under test needs to know; `us_per_token` None: the real model."""

    bootstrap_servers: str
    prefix: str
    model_dir: str
    us_per_token: float | None


def work(job: Job) -> None:
    """The process under test; a line on its standard input makes it write its account."""
    set_up_logging(LogSettings(level="error"))
    account = Account()
    account.watch()
    settings = WorkerSettings(group=job.prefix, model_slots=1, model_dir=Path(job.model_dir))
    kafka, topics = KafkaSettings(bootstrap_servers=job.bootstrap_servers), TopicSettings(prefix=job.prefix)
    model = (
        SleepingModel(job.us_per_token) if job.us_per_token else OnnxModel.load(settings.model_dir, settings.max_tokens)
    )
    replica = Worker(kafka, topics, settings, CollectorRegistry(), TimedModel(model, account))

    async def serve(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, tell)
        await replica.run(stop)

    def tell() -> None:
        sys.stdin.readline()
        print(json.dumps(account.spent_s), flush=True)

    run(serve)


async def measure(
    bootstrap_servers: str, texts: Sequence[str], cores: set[int], model_dir: Path, us_per_token: float | None = None
) -> dict[str, float]:
    """Microseconds of CPU a text, by stage."""
    stream = await Stream.create(bootstrap_servers, PARTITIONS)
    job = Job(
        bootstrap_servers=bootstrap_servers,
        prefix=stream.topics.prefix,
        model_dir=str(model_dir),
        us_per_token=us_per_token,
    )
    command = module("tests.benchmarks.stages", "--work", msgspec.json.encode(job).decode())
    with tempfile.TemporaryDirectory(prefix="streamgauge-bench-") as folder:
        async with (
            AIOKafkaProducer(bootstrap_servers=bootstrap_servers, max_batch_size=2**20) as producer,
            Results.of(stream) as results,
            started(command, cores, Path(folder) / "log") as process,
        ):
            await publish(producer, stream.topics.input, texts[:WARM_UP_TEXTS])
            await results.until(WARM_UP_TEXTS)
            before = await account_of(process)
            await publish(producer, stream.topics.input, texts)
            await results.until(WARM_UP_TEXTS + len(texts))
            after = await account_of(process)
    return by_stage({stage: (spent_s - before.get(stage, 0)) / len(texts) * 1e6 for stage, spent_s in after.items()})


async def account_of(process: asyncio.subprocess.Process) -> dict[str, float]:
    """CPU seconds that the process under test has spent so far, by stage, and in `ALL`."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    return {**json.loads(await process.stdout.readline()), ALL: cpu_s(process.pid)}


def by_stage(spent: Mapping[str, float]) -> dict[str, float]:
    """Largest first, with what was charged to nobody; then the sum, and what tokenising and the model took."""
    inside = {name: spent.get(name, 0.0) for name in (TOKENISE, MODEL)}
    stages = {name: value for name, value in spent.items() if name not in (ALL, *inside)}
    outside = spent[ALL] - sum(inside.values())
    stages["the event loop itself, and handing over to threads"] = outside - sum(stages.values())
    ordered = sorted(stages.items(), key=lambda item: -item[1])
    return {name: round(value, 1) for name, value in [*ordered, (OUTSIDE, outside), *inside.items()]}


def table(stages: Mapping[str, float]) -> str:
    """Markdown."""
    rows = (f"| {name} | {value:.1f} |" for name, value in stages.items())
    return "\n".join(["| stage | µs of CPU a text |", "|---|--:|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=TEXT_SETS, default="short")
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--us-per-token", type=float, help="of a model that only sleeps")
    parser.add_argument("--model-dir", type=Path, default=WorkerSettings().model_dir)
    parser.add_argument("--work", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(msgspec.json.decode(options.work, type=Job))
        return
    own, others = shared_out(sorted(os.sched_getaffinity(0)), 1)
    os.sched_setaffinity(0, others)
    texts = texts_of(options.set, options.texts)
    with EmbeddedKafka() as kafka:
        print(table(asyncio.run(measure(kafka.bootstrap_servers, texts, own, options.model_dir, options.us_per_token))))


if __name__ == "__main__":
    main()
