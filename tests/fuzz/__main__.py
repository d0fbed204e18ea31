"""Feeds whatever reads what strangers write with hostile input, and says what did not hold. Each case can be repeated.

Each target is a process of its own, and must not grow. Then records go through a worker and a listener on a real Kafka,
and requests to the port of a service.
"""

import argparse
import asyncio
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from streamgauge.broker.embedded import EmbeddedKafka
from tests.fuzz import services
from tests.fuzz.running import MAX_TOLD, Outcome, quiet, run
from tests.fuzz.targets import TARGETS

RECORDS, REQUESTS = 20_000, 2_000
"""Through worker and listener each, and to the port."""


def decoders(seed: int, scale: float, case: int | None, targets: list[str]) -> list[Outcome]:
    """What came of the targets, of all cases or of one."""
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=quiet, max_tasks_per_child=1) as processes:
        cases = {name: range(max(1, round(TARGETS[name][1] * scale))) for name in targets}
        cases = cases if case is None else {name: range(case, case + 1) for name in targets}
        return [*map(_told, processes.map(run, targets, [seed] * len(targets), cases.values()))]


def through_services(seed: int, scale: float) -> list[Outcome]:
    """What came of worker, listener and port."""
    with EmbeddedKafka() as kafka:
        records, requests = round(RECORDS * scale), round(REQUESTS * scale)
        parts: dict[str, Callable[[], Awaitable[int]]] = {
            "worker": partial(services.through_worker, kafka.bootstrap_servers, seed, records),
            "listener": partial(services.through_listener, kafka.bootstrap_servers, seed, records),
            "port": partial(services.at_the_port, seed, requests),
        }
        return [_told(asyncio.run(_measured(f"service {name}", part))) for name, part in parts.items()]


async def _measured(name: str, part: Callable[[], Awaitable[int]]) -> Outcome:
    began_s = time.monotonic()
    try:
        outcome = Outcome(name, await part())
    except Exception:  # noqa: BLE001 - whatever it is, the next part is tried as well
        outcome = Outcome(name, 0, failures=[traceback.format_exc()])
    outcome.duration_s = time.monotonic() - began_s
    return outcome


def _told(outcome: Outcome) -> Outcome:
    verdict = f"{len(outcome.failures)} FAILED" if outcome.failures else "ok"
    growth = f"{outcome.growth_bytes >> 20:4} MB more" if outcome.growth_bytes else ""
    print(f"{outcome.target:16} {outcome.cases:7} cases {outcome.duration_s:6.1f} s {growth:12} {verdict}", flush=True)
    for failure in outcome.failures[:MAX_TOLD]:
        print(failure)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: a random one")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the usual number of cases")
    parser.add_argument("--targets", nargs="*", choices=TARGETS, help="without services; default: all")
    parser.add_argument("--case", type=int, help="this one alone")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    outcomes = decoders(arguments.seed, arguments.scale, arguments.case, arguments.targets or [*TARGETS])
    if arguments.targets is None and arguments.case is None:
        quiet()
        outcomes += through_services(arguments.seed, arguments.scale)
    failed = sum(len(outcome.failures) for outcome in outcomes)
    print(f"{sum(outcome.cases for outcome in outcomes)} cases, {failed} failed, seed {arguments.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
