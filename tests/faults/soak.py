"""The soak: several brokers, several workers, a stream of records, random faults, and the oracle's verdict.

    python -m tests.faults.soak --records 1000000 --faults 200 --nodes 3 --seed 7 --json

Exits with 0 when nothing was lost, doubled, wrong or out of order, the audit is exact, the group ended well, each
partition was read again soon after each fault, and the run tested something: some transactions were aborted or fenced.
Else with 1, and the folder with all logs is kept.
"""

import argparse
import asyncio
import logging
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from streamgauge.broker.embedded import EmbeddedKafka
from streamgauge.broker.jars import KAFKA_VERSION
from streamgauge.settings import LogSettings
from streamgauge.telemetry import set_up_logging
from tests.cluster import Stream, until
from tests.faults.soak_cluster import BROKER_SETTINGS, ask, in_sync
from tests.faults.soak_faults import BROKER_FAULTS, WORKER_FAULTS, Faults
from tests.faults.soak_fleet import Post, failed_transactions
from tests.faults.soak_report import Report, sum_up, table
from tests.faults.soak_stream import Feed, Flow, Ledger, hidden_records, log_ends, verify

MAX_RATE = 5_000.0
"""Records a second, more than two cores take beside three brokers: the lag bounds the feed, not this."""
FAULT_S = 8.0
"""How long a fault takes with its recovery, the two lanes together; only the first guess."""
HASTE = 0.9
"""The feed is a little faster than it need be, so that no lane waits for its fault to be due."""
RESERVE = 0.04
"""This share of the records is sent after the last fault has begun."""
DRAIN_STALL_S = 90.0
PROGRESS_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to run."""

    records: int
    faults: int
    nodes: int
    seed: int
    workers: int = 3
    partitions: int = 6
    kinds: Sequence[str] = ()
    """Of faults; none: all that so many nodes allow."""
    kafka_version: str = KAFKA_VERSION


def deal(options: Options) -> list[str]:
    """The kinds of the faults, in the order of the seed: each kind once before any comes again."""
    dice = random.Random(options.seed)
    every = sorted(WORKER_FAULTS) + (sorted(BROKER_FAULTS) if options.nodes > 2 else [])
    kinds = list(options.kinds) or every
    deck: list[str] = []
    while len(deck) < options.faults:
        deck += dice.sample(kinds, len(kinds))
    return deck[: options.faults]


class Schedule:
    """Spreads the faults evenly over the records, and the records over the time that the faults take."""

    def __init__(self, options: Options, flow: Flow) -> None:
        self._flow, self._kinds, self.faults, self.done = flow, deal(options), options.faults, 0
        self._records = flow.each * options.partitions
        self._began_s = time.monotonic()

    def rate(self) -> float:
        """Records a second, of all partitions: what is left, over the time that the faults left will take."""
        left = self.faults - self.done
        if not left:
            return MAX_RATE
        known_s = time.monotonic() - self._began_s
        left_s = left * (known_s / self.done if self.done >= 5 else FAULT_S) * HASTE
        unsent = self._records * (1 - RESERVE / 2) - sum(self._flow.sent)
        return min(MAX_RATE, max(len(self._flow.sent), unsent / left_s))

    async def lane(self, faults: Faults, kinds: Sequence[str]) -> None:
        """Inject this lane's faults, one at a time, each when its share of the records has been sent."""
        for number, kind in enumerate(self._kinds):
            if kind in kinds:
                due = self._records * (1 - RESERVE) * number / self.faults
                await until(lambda due=due: sum(self._flow.sent) >= due)  # type: ignore[misc]
                await faults.inject(kind)
                self.done += 1


async def soak(options: Options, folder: Path) -> Report:
    """Run it; the logs are written to `folder`. Raises what made a verdict impossible."""
    began_s = time.monotonic()
    report = Report(records=0, faults=options.faults, seed=options.seed)
    embedded = EmbeddedKafka(
        data_dir=folder / "kafka", nodes=options.nodes, version=options.kafka_version, settings=BROKER_SETTINGS
    )
    try:
        await asyncio.to_thread(embedded.start)
        stream = await Stream.create(embedded.bootstrap_servers, options.partitions)
        ledger = Ledger(options.seed, options.partitions)
        flow = Flow.start(options.partitions, math.ceil(options.records / options.partitions))
        await _run(options, folder, embedded, stream, ledger, flow, report)
        report.duration_s = round(time.monotonic() - began_s, 1)
        _say("verifying")
        await _judge(stream, ledger, report)
    finally:
        for node in embedded.nodes:
            node.kill()
        await asyncio.to_thread(embedded.stop)
    counts = failed_transactions(folder)
    report.aborted, report.fenced, report.split = counts["aborted"], counts["fenced"], counts["differ"]
    report.silence_max_s = round(max(report.silences_s, default=0.0), 1)
    report.records_per_s = round(report.records / report.duration_s, 1)
    sum_up(Counter(deal(options)), flow.strikes, report)
    return report


async def _run(
    options: Options,
    folder: Path,
    embedded: EmbeddedKafka,
    stream: Stream,
    ledger: Ledger,
    flow: Flow,
    report: Report,
) -> None:
    """Send, work and break until everything is healed, done and ended."""
    posts = [Post(stream, f"worker-{number}", folder, report) for number in range(options.workers)]
    async with asyncio.TaskGroup() as tasks:
        fleet = [tasks.create_task(post.run()) for post in posts]
        watch = tasks.create_task(flow.watch(stream))
        for post in posts:
            await post.replica()
        schedule = Schedule(options, flow)
        dice = [random.Random(f"{options.seed}-{lane}") for lane in ("workers", "brokers")]
        faults = Faults(embedded, stream, posts, flow, folder, dice[0], report)
        progress = tasks.create_task(_progress(flow, schedule, faults.running, report))
        async with asyncio.TaskGroup() as work:
            work.create_task(Feed(stream, ledger, flow, options.seed, schedule.rate).run())
            work.create_task(schedule.lane(faults, list(WORKER_FAULTS)))
            work.create_task(schedule.lane(replace(faults, dice=dice[1]), list(BROKER_FAULTS)))
        await in_sync(stream)
        report.records = len(ledger)
        await _drained(stream, flow, report)
        for task in (watch, progress):
            task.cancel()
        for post in posts:
            await post.close()
        await asyncio.wait(fleet)
        await _empty(stream, report)


async def _progress(flow: Flow, schedule: Schedule, running: list[str], report: Report) -> None:
    began_s, before = time.monotonic(), 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        sent, elapsed_s = sum(flow.sent), time.monotonic() - began_s
        longest_s = max((strike.recovery_s or 0 for strike in flow.strikes), default=0)
        _say(
            f"{elapsed_s:5.0f} s  sent {sent:,} of {flow.each * len(flow.sent):,}"
            f" ({(sent - before) / PROGRESS_S:,.0f}/s)"
            f"  lag {flow.lag:,}  faults {schedule.done} of {schedule.faults}, now {', '.join(running) or 'none'}"
            f"  recovery {longest_s:.1f} s at most  own exits {len(report.exits)}"
        )
        before = sent


async def _drained(stream: Stream, flow: Flow, report: Report) -> None:
    """Wait until the committed offsets are the log ends, as long as they move."""
    ends = dict.fromkeys(range(stream.partitions), flow.each)
    before: dict[int, int | None] = {}
    moved_s = time.monotonic()
    while (committed := await stream.committed()) != ends:
        if committed != before:
            before, moved_s = committed, time.monotonic()
        if time.monotonic() - moved_s > DRAIN_STALL_S:
            report.problems.append(f"committed offsets stand still at {committed}, the logs end at {ends}")
            return
        await asyncio.sleep(1)


async def _empty(stream: Stream, report: Report) -> None:
    """The group must have been left by all, not lost them."""

    async def state(admin: AIOKafkaAdminClient) -> str:
        [response] = await admin.describe_consumer_groups([stream.group])
        return str(response.groups[0][2])

    if (now := await ask(stream, state)) != "Empty":
        report.problems.append(f"the group is {now}, not Empty, after all have left")


async def _judge(stream: Stream, ledger: Ledger, report: Report) -> None:
    holes = ledger.holes(await log_ends(stream))
    if holes:
        report.problems.append(f"inputs that were never acknowledged: {len(holes)}, the first {holes[:5]}")
    verdict = await verify(stream, ledger)
    for name in ("lost", "doubled", "wrong", "out_of_order", "audit"):
        found = getattr(verdict, name)
        setattr(report, name, len(found))
        if found:
            _say(f"{name}: {len(found)}, the first {found[:10]}")
    report.hidden = await hidden_records(stream)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.split("\n")[0])
    for name, default in {"records": 1_000_000, "faults": 200, "nodes": 3, "workers": 3, "partitions": 6}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of all choices; default: a random one"
    )
    every = [*WORKER_FAULTS, *BROKER_FAULTS]
    parser.add_argument("--kinds", nargs="+", choices=every, default=(), help="of faults; default: all")
    parser.add_argument("--kafka-version", default=KAFKA_VERSION, help="of the brokers; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="the last line is the report as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the logs whatever the verdict")
    arguments = vars(parser.parse_args())
    as_json, keep = arguments.pop("json"), arguments.pop("keep")
    options = Options(**arguments)
    folder = Path(tempfile.mkdtemp(prefix="streamgauge-soak-"))
    set_up_logging(LogSettings(level="error"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    _say(f"seed {options.seed}, logs in {folder}")
    report = asyncio.run(soak(options, folder))
    print(table(report))
    if report.passed and not keep:
        shutil.rmtree(folder)
    elif not report.passed:
        reason = "failed" if not report.verdict_is_clean else "silent for too long, or no transaction failed"
        print(f"{reason}; logs: {folder}")
    if as_json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
