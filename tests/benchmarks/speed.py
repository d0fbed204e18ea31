"""How near the worker comes to the raw model, and how far ahead of simpler ways it is: `make bench`.

    make bench ARGS="[--quick] [--json FILE] [--chart FILE.svg] [--report FILE.md] [--tutorial-python PYTHON] …"

On four sets of texts, in turn, each in a process of its own, with the same model files:

    ceiling   tokenise and score in the best batches that can be cut from as many texts as the worker may hold; no Kafka
    worker    `python -m worker` on a real Apache Kafka, exactly once, until all results are committed
    naive     one poll, pad to the longest, one run, send, commit
    tutorial  one message at a time through a Transformers pipeline, same weights in fp32; no Kafka

The contestant has `--cores` of its own (1), Kafka and this process have the others. Linux only.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamgauge.broker.embedded import EmbeddedKafka
from tests.benchmarks import report, service, stages
from tests.benchmarks.contestants import Plan
from tests.benchmarks.measuring import Missing, Run, as_file, on_kafka, without_kafka
from tests.benchmarks.processes import module, shared_out
from tests.benchmarks.texts import TEXT_SETS, texts_of
from worker.settings import WorkerSettings

CONTESTANTS = ("ceiling", "worker", "naive", "tutorial")
PARTS = {"ceiling": 1, "worker": 1, "naive": 8, "tutorial": 16}
"""Each gets so small a part of the texts that all take about as long; see `texts`."""
LEAST_TEXTS = {"ceiling": 1, "worker": 1, "naive": 64, "tutorial": 20}
FULL = 3
"""Times as many texts as with `--quick`."""


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    bootstrap_servers: str
    plan: Plan
    cores: set[int]
    tutorial_python: str | None
    tutorial_model_dir: Path
    scale: float

    async def run(self, text_set: str, contestant: str) -> Run:
        """One run. Raises Missing when the contestant cannot run here."""
        count = max(LEAST_TEXTS[contestant], round(TEXT_SETS[text_set].texts * self.scale / PARTS[contestant]))
        texts = texts_of(text_set, count)
        with tempfile.TemporaryDirectory(prefix="streamgauge-bench-") as name:
            folder = Path(name)
            log = folder / "log"
            if contestant in ("worker", "naive"):
                return await on_kafka(contestant, self.bootstrap_servers, self.plan, texts, self.cores, log)
            return await without_kafka(self._command(contestant, as_file(texts, folder)), count, self.cores, log)

    def _command(self, contestant: str, texts_file: Path) -> list[str]:
        if contestant == "ceiling":
            plan = msgspec.structs.replace(self.plan, texts_file=str(texts_file))
            return module("tests.benchmarks.contestants", "ceiling", msgspec.json.encode(plan).decode())
        if self.tutorial_python is None:
            raise Missing("needs torch, transformers and onnx: --tutorial-python names an interpreter that has them")
        return [self.tutorial_python, "tests/benchmarks/tutorial.py", str(self.tutorial_model_dir), str(texts_file)]


async def compare(bench: Bench, text_sets: Sequence[str], contestants: Sequence[str], rounds: int) -> report.Runs:
    """All runs, contestants in turn and in another order each round."""
    runs: report.Runs = {name: {contestant: [] for contestant in contestants} for name in text_sets}
    dice = random.Random(1)
    for number in range(rounds):
        for name in text_sets:
            for contestant in dice.sample(contestants, len(contestants)):
                try:
                    runs[name][contestant].append(await bench.run(name, contestant))
                except Missing as missing:
                    runs[name][contestant].append(str(missing))
                print(f"round {number + 1}: {name:8}{report.one_line(contestant, runs[name][contestant][-1])}")
    return runs


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few texts: under 3 minutes, coarser")
    parser.add_argument("--rounds", type=int, help="default 3; with --quick 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw it")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="measure stages and service too; write all")
    parser.add_argument("--sets", nargs="+", choices=TEXT_SETS, default=list(TEXT_SETS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--cores", type=int, default=1, help="of the contestant; Kafka has the others")
    parser.add_argument("--model-dir", type=_directory, default=WorkerSettings().model_dir)
    parser.add_argument(
        "--fp32", type=_directory, metavar="DIR", help="a model directory in fp32: all but naive once more with it"
    )
    parser.add_argument(
        "--tutorial-python",
        default=os.environ.get("STREAMGAUGE_BENCH_TUTORIAL_PYTHON"),
        help="an interpreter that has torch, transformers and onnx",
    )
    return parser.parse_args(arguments)


def _directory(name: str) -> Path:
    return Path(name).resolve()


async def measure(options: argparse.Namespace) -> report.Report:
    """Start Kafka, run all, sum up."""
    own, others = shared_out(sorted(os.sched_getaffinity(0)), options.cores)
    os.sched_setaffinity(0, others)
    rounds = options.rounds or (1 if options.quick else 3)

    async def contest(model_dir: Path, contestants: Sequence[str], scale: float) -> report.Report:
        settings = WorkerSettings(model_dir=model_dir)
        plan = Plan(
            model_dir=str(settings.model_dir),
            max_batch_tokens=settings.max_batch_tokens,
            held_texts=settings.max_records,
        )
        tutorial = options.tutorial_python, options.model_dir  # in fp32 whatever the model
        bench = Bench(kafka.bootstrap_servers, plan, own, *tutorial, scale)
        about = report.about(settings, own, others, rounds)
        return report.summed_up(await compare(bench, options.sets, contestants, rounds), about)

    with EmbeddedKafka() as kafka:
        result = await contest(options.model_dir, options.contestants, 1 if options.quick else FULL)
        if options.fp32:  # a third as fast, and so for a third of the texts
            result["fp32"] = await contest(options.fp32, [name for name in options.contestants if name != "naive"], 1)
        if options.report:
            short = texts_of("short", TEXT_SETS["short"].texts)
            result["stages"] = await stages.measure(kafka.bootstrap_servers, short, own, options.model_dir)
            with tempfile.TemporaryDirectory(prefix="streamgauge-bench-") as folder:
                fleets = service.Bench(kafka.bootstrap_servers, own, Path(folder), options.model_dir)
                result["service"] = await service.measure(fleets, service.PARTS, rounds)
        return result


def main() -> None:
    options = options_of()
    result = asyncio.run(measure(options))
    print(report.table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.chart:
        options.chart.write_text(report.chart(result))
    if options.report:
        tables = {"Stages": stages.table(result["stages"]), "Service": service.table(result["service"])}
        if "fp32" in result:
            tables = {"The same weights in fp32": report.table(result["fp32"]), **tables}
        options.report.write_text(report.document(result, tables))


if __name__ == "__main__":
    main()
