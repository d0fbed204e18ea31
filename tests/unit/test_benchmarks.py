"""The benchmark's own parts: its texts, batches, sums and tables; that what it says was counted."""

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import report, scaling, service, stages
from tests.benchmarks.contestants import Counts, Plan, sorted_batches
from tests.benchmarks.flowing import Arrival, Near, Window, percentile_s
from tests.benchmarks.measuring import Missing, Run, as_file, without_kafka
from tests.benchmarks.processes import module, shared_out
from tests.benchmarks.speed import options_of
from tests.benchmarks.texts import TEXT_SETS, texts_of
from worker.settings import WorkerSettings

MODEL_DIR = str(WorkerSettings().model_dir)


def words(text: str) -> int:
    return len(text.split())


def test_text_sets_have_the_lengths_they_name() -> None:
    """Also a short beginning of a set has the lengths of the whole."""
    for count in (40, 400):
        assert sum(words(text) > 150 for text in texts_of("bimodal", count)) == pytest.approx(0.3 * count, abs=2)
        assert sum(words(text) > 90 for text in texts_of("long", count)) == count
        assert max(map(words, texts_of("long", count))) < 512
        assert sum(words(text) for text in texts_of("short", count)) < 25 * count
    assert {name: len(texts_of(name, 5)) for name in TEXT_SETS} == dict.fromkeys(TEXT_SETS, 5)
    assert texts_of("mixed", 30) == texts_of("mixed", 60)[:30]


def test_the_ceiling_cuts_all_texts_within_the_budget() -> None:
    """Shortest first, nothing lost; a text over the budget goes alone."""
    encoded = [[0] * length for length in (9, 3, 3, 30, 4)]
    batches = list(sorted_batches(encoded, 10))
    assert [[len(ids) for ids in batch] for batch in batches] == [[3, 3], [4], [9], [30]]
    done = Counts()
    for batch in batches:
        done = done.with_batch(batch)
    assert done == Counts(texts=5, batches=4, tokens=49, padded_tokens=49)
    assert Counts().with_batch([[0], [0] * 4]).since(Counts(texts=1)) == Counts(1, 1, 5, 8)


def test_cores_are_shared_only_where_there_are_too_few() -> None:
    """The contestant has cores of its own if the machine has them."""
    assert shared_out([0, 1, 2], 1) == ({0}, {1, 2})
    assert shared_out([4, 5], 2) == ({4, 5}, {4, 5})


def run(texts_per_s: float, cpu_s_per_1000: float) -> Run:
    return Run(100, texts_per_s, cpu_s_per_1000, 200.0, 5.0, 0.1)


def test_ratios_are_paired_by_round_and_what_is_missing_says_why() -> None:
    """Medians of three rounds; a machine that was slow in one of them slows both sides of its ratio."""
    runs: report.Runs = {
        "short": {
            "ceiling": [run(300, 3), run(100, 9), run(300, 3)],
            "worker": [run(270, 3.2), run(90, 9.6), run(270, 3.2)],
            "tutorial": ["needs torch"] * 3,
        }
    }
    settings = WorkerSettings(model_dir=Path(MODEL_DIR))
    result = report.summed_up(runs, report.about(settings, {0}, {1}, rounds=3))
    assert result["short"]["ceiling"]["cpu_s_per_1000"] == 3
    assert result["short"]["ceiling"]["spread"]["cpu_s_per_1000"] == 2
    assert result["short"]["worker"]["ratios"] == {"ceiling": {"cpu": 0.938, "wall": 0.9}}
    assert result["short"]["tutorial"] == {"missing": "needs torch"}
    assert {"machine", "versions", "settings"} < json.loads(json.dumps(result)).keys()
    table = report.table(result)
    assert "| short | ceiling | 300.0 | 3.00 | 0.94 x | 0.90 x | 200 | 5.0 | 10% | 200% |" in table
    assert "| short | tutorial | missing: needs torch |" in table
    chart = ET.fromstring(report.chart(result))
    bars = [bar.get("width") for bar in chart.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars == ["400", "375"]


async def test_the_ceiling_scores_all_its_texts(tmp_path: Path) -> None:
    """A tiny run of the real thing: all texts scored, time and memory seen from outside."""
    texts = texts_of("mixed", 24)
    plan = Plan(model_dir=MODEL_DIR, texts_file=str(as_file(texts, tmp_path)))
    command = module("tests.benchmarks.contestants", "ceiling", json.dumps(plan_fields(plan)))
    async with asyncio.timeout(60):
        measured = await without_kafka(command, len(texts), {0}, tmp_path / "log")
    assert measured.texts == 24
    assert 0 < measured.cpu_s_per_1000 / 1000 * 24 < 60
    assert measured.texts_per_s > 0
    assert 1 < measured.batch_texts <= 24
    assert 0 <= measured.padding_share < 0.5
    assert measured.rss_mb > 100


def plan_fields(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in plan.__struct_fields__}


async def test_a_contestant_that_cannot_start_is_missing(tmp_path: Path) -> None:
    """Its last words are the reason."""
    with pytest.raises(Missing, match="no such module"):
        await without_kafka(["sh", "-c", "echo no such module >&2"], 1, {0}, tmp_path / "log")


def test_options_name_what_can_be_left_out() -> None:
    """`--quick` is one round of few texts; all sets and contestants run unless told otherwise."""
    options = options_of(["--quick", "--contestants", "ceiling", "worker"])
    assert options.quick
    assert options.contestants == ["ceiling", "worker"]
    assert options.sets == list(TEXT_SETS)


def test_stages_add_up_to_what_is_outside_the_model() -> None:
    """What was charged to nobody is a stage too; tokenising and the model stand apart."""
    spent = {"decode": 2.0, "encode results": 6.0, stages.TOKENISE: 30.0, stages.MODEL: 1000.0, stages.ALL: 1100.0}
    found = stages.by_stage(spent)
    assert list(found.values()) == [62, 6, 2, 70, 30, 1000]
    assert found[stages.OUTSIDE] == 70
    assert "| decode | 2.0 |" in stages.table(found)


def test_a_step_of_the_event_loop_belongs_to_its_task() -> None:
    """By the name of the task or of what it runs; a callback by its own."""

    async def run() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0), name=name) for name in ("intake", "partition-3", "odd")]
        await asyncio.gather(*tasks)
        return [stages.task_of(type("Step", (), {"__self__": task})()) for task in tasks]

    assert asyncio.run(run()) == ["intake, inference and their threads' answers", "transactions", "everything else"]


def test_the_report_is_a_page_of_tables() -> None:
    """Contestants first, then stages and service under their headings."""
    runs: report.Runs = {"short": {"ceiling": [run(300, 3)], "worker": [run(270, 3.2)]}}
    about = report.about(WorkerSettings(model_dir=Path(MODEL_DIR)), {0}, {1}, rounds=1)
    tables = {"Service": service.table({"idle": {"cpu_share": 0.004}, "scaling": {"2 replicas": {"ratio": 1.01}}})}
    page = report.document(report.summed_up(runs, about), tables)
    assert page.index("| short | worker |") < page.index("## Service")
    assert "| idle | cpu_share | 0.004 |" in page
    assert "| scaling | 2 replicas ratio | 1.01 |" in page


def test_replicas_have_a_core_each_and_share_where_there_are_too_few() -> None:
    """Kafka has what is left; on two cores the second replica's core is Kafka's too."""
    assert scaling.cores_of([0, 1, 2, 3], 3) == ([0, 1, 2], {3})
    assert scaling.cores_of([4, 5], 3) == ([4, 5, 4], {5})


def test_a_wait_is_counted_from_the_windows_begin_and_to_its_end() -> None:
    """Of the partition that showed nothing for longest; one that shows nothing at all waits the whole window."""
    window = Window(10, 20, [Arrival(at_s, 0, (0.1,)) for at_s in (11, 14, 19)])
    assert window.longest_wait_s(1) == 5
    assert window.longest_wait_s(2) == 10
    window.arrivals += [Arrival(at_s, 1, (0.2, 0.3)) for at_s in (13, 16, 20)]
    assert window.longest_wait_s(2) == 5
    assert window.results_per_s == 0.9
    assert percentile_s([window], 0.5) == 0.2
    assert percentile_s([window, Window(0, 1, [Arrival(1, 0, (9.0,))])], 0.99) == 9


def test_a_run_that_lost_a_record_or_kept_a_reader_waiting_does_not_pass() -> None:
    """Either is enough."""
    good: dict[str, Any] = {
        "faults": {"lost": 0, "doubled": 0},
        "cycles": {"joining_longest_wait_s": 1.2, "stopping_longest_wait_s": 0.6},
    }
    assert scaling.passes(good)
    assert not scaling.passes(good | {"faults": {"lost": 0, "doubled": 1}})
    assert not scaling.passes(good | {"cycles": good["cycles"] | {"stopping_longest_wait_s": 2.1}})


def test_a_probability_is_right_but_for_its_last_digits() -> None:
    """As the oracle compares it."""
    assert Near(0.98) == 0.98 + 3e-8
    assert Near(0.98) != 0.98 + 3e-6
    assert Near(0.98) != "empty_text"
