"""A worker in a process of its own that can stop, kill or hurt itself at a chosen step of the protocol.

Run as `python -m tests.faults.worker_process '{"bootstrap_servers": …}'`; see `Plan`. It says what happens as JSON
lines on standard error (the worker's own log), and freezes or dies by real signals.
"""

import sys
from typing import Any, Literal
from unittest import mock

import msgspec
from prometheus_client import CollectorRegistry

import worker.start
import worker.transaction
from streamgauge.http import serve_http
from streamgauge.lifecycle import run
from streamgauge.settings import KafkaSettings, LogSettings, TopicSettings
from streamgauge.telemetry import set_up_logging
from tests.faults import hooks, wrong
from tests.faults.holding_model import HoldingModel
from tests.faults.steps import STEPS, arm
from worker.service import Worker
from worker.settings import WorkerSettings

__all__ = ["AUDIT_SHARE", "STEPS", "Plan"]

AUDIT_SHARE = 0.5
"""So that nearly every transaction writes to the audit, unless a plan says otherwise."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What this process is and what befalls it; the fault strikes at the `nth` passing of `step`."""

    bootstrap_servers: str
    prefix: str
    group: str
    instance: str
    step: str | None = None
    nth: int = 1
    signal: str = "SIGSTOP"
    then: tuple[str, int, str] | None = None
    """A second fault: its step, passing and signal."""
    one_id_per_worker: bool = False
    """The control: transactional ids as client documentation shows them, one for each worker."""
    control: str | None = None
    """Any other wrong variant, by its name in `tests.faults.wrong`."""
    fail_delivery: int | None = None
    """The nth batch of results is not delivered: the client gives it up."""
    holds: bool = True
    """Whether texts that ask for it are held in the model at all."""
    release_at: int | None = None
    """Held texts leave the model when the outcome of this offset is known."""
    release_when_reopened: bool = False
    """Held texts leave the model when their record is fetched again."""
    max_batch_bytes: int | None = None
    """Of a batch of output: small, and each transaction has several."""
    open_timeout_s: float | None = None
    """For a fence and for the reading of where to start; a script may not have the worker's patience."""
    log_level: Literal["info", "debug"] = "debug"
    """At debug each line is written, as scripts read them; otherwise repetitions are folded."""
    settings: dict[str, Any] = {}


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    set_up_logging(LogSettings(level=plan.log_level, format="json"))
    model = HoldingModel()
    _prepare(plan, model)
    kafka, topics = KafkaSettings(bootstrap_servers=plan.bootstrap_servers), TopicSettings(prefix=plan.prefix)
    chosen = {"audit_share": AUDIT_SHARE} | plan.settings
    settings = WorkerSettings(group=plan.group, instance=plan.instance, http_port=0, **chosen)
    registry = CollectorRegistry()

    async def serve(stop: Any) -> None:
        replica = Worker(kafka, topics, settings, registry, model)
        async with serve_http("127.0.0.1", 0, registry, live=replica.live, ready=replica.ready):
            await replica.run(stop)

    run(serve)


def _prepare(plan: Plan, model: HoldingModel) -> None:
    """Patch what the plan asks for; the wrong variant first, so that steps are found in it too."""
    if plan.one_id_per_worker:
        wrong.one_id_per_worker(plan.instance)
    if plan.control:
        wrong.VARIANTS[plan.control]()
    if plan.fail_delivery:
        hooks.fail_delivery(plan.fail_delivery)
    if plan.release_at is not None:
        hooks.release_at(plan.release_at, model)
    if plan.release_when_reopened:
        hooks.release_when_reopened(model)
    _limit(plan)
    if not plan.holds:
        model.release()
    if plan.step:
        arm(plan.step, plan.nth, plan.signal, model)
    if plan.then:
        arm(*plan.then, model)


def _limit(plan: Plan) -> None:
    """Smaller batches and less patience, where the plan says so."""
    if plan.max_batch_bytes:
        mock.patch.object(worker.transaction, "MAX_BATCH_BYTES", plan.max_batch_bytes).start()
    if plan.open_timeout_s:
        for module in (worker.transaction, worker.start):
            mock.patch.object(module, "OPEN_TIMEOUT_S", plan.open_timeout_s).start()


if __name__ == "__main__":
    main()
