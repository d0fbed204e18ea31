"""A worker in a process of its own that can stop, kill or hurt itself at a chosen step of the protocol.

Run as `python -m tests.faults.worker_process '{"bootstrap_servers": …}'`; see `Plan`. It says what happens as JSON
lines on standard error (the worker's own log), and freezes or dies by real signals.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

import worker.transaction
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from streamgauge.telemetry import serve_http, set_up_logging
from tests.echo import EchoModel
from worker.service import Worker
from worker.settings import WorkerSettings

STEPS = {
    "fencing": ("start", "before"),
    "fenced": ("start", "after"),
    "begun": ("begin_transaction", "after"),
    "sent": ("send_batch", "after"),
    "offsets": ("send_offsets_to_transaction", "after"),
    "committing": ("commit_transaction", "before"),
    "committed": ("commit_transaction", "after"),
}
"""Where the process can be hurt: a call of the transactional producer, and which side of it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What this process is and what befalls it; the fault strikes at the `nth` passing of `step`."""

    bootstrap_servers: str
    prefix: str
    group: str
    instance: str
    step: str | None = None
    nth: int = 1
    signal: str = "SIGSTOP"
    one_id_per_worker: bool = False
    """The control: transactional ids as client documentation shows them, one for each worker."""
    settings: dict[str, Any] = {}


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    set_up_logging(LogSettings(format="json"))
    if plan.step:
        _arm(plan, *STEPS[plan.step])
    if plan.one_id_per_worker:
        own_id = f"{plan.instance}-{{0.partition}}"
        setattr(worker.transaction, "transactional_id", lambda _group, tp: own_id.format(tp))  # noqa: B010
    kafka, topics = KafkaSettings(bootstrap_servers=plan.bootstrap_servers), TopicSettings(prefix=plan.prefix)
    settings = WorkerSettings(group=plan.group, instance=plan.instance, http_port=0, **plan.settings)
    registry = CollectorRegistry()

    async def serve(stop: Any) -> None:
        replica = Worker(kafka, topics, settings, registry, EchoModel())
        async with serve_http("127.0.0.1", 0, registry, live=replica.live, ready=replica.ready):
            await replica.run(stop)

    run(serve)


def _arm(plan: Plan, method: str, side: str) -> None:
    original = getattr(AIOKafkaProducer, method)
    passings = 0

    def strike() -> None:
        nonlocal passings
        passings += 1
        if passings == plan.nth:
            os.kill(os.getpid(), signal.Signals[plan.signal])

    async def hurt(self: AIOKafkaProducer, *args: Any, **kwargs: Any) -> Any:
        if side == "before":
            strike()
        result = await original(self, *args, **kwargs)
        if side == "after":
            strike()
        return result

    patched: Callable[..., Any] = hurt
    setattr(AIOKafkaProducer, method, patched)


if __name__ == "__main__":
    main()
