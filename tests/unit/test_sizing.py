"""The sizing page: its figures are those of the results, its examples what its formulas give."""

import re
from collections.abc import Iterator
from math import ceil

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamgauge.events import ModelRef
from streamgauge.settings import TopicSettings
from tests.cluster import ROOT
from tests.records import FakeRecord
from worker.audit import Audit
from worker.outcomes import Encoded, ModelIdentity, Scored
from worker.output import Origin, output_records

RESULTS = (ROOT / "tests" / "benchmarks" / "results.md").read_text()
PAGE = (ROOT / "infra" / "sizing.md").read_text()
KINDS = ("short", "mixed", "long")
WINDOW_DAYS, LABELLED = 7, 0.01
LABELS = ("NEGATIVE", "POSITIVE")
AUDIT_BYTES = 690
MARKER_BYTES = 78
"""A batch of one control record."""


def rows(text: str, section: str) -> Iterator[list[str]]:
    """The cells of the first table of a section, without its head; of the whole text if it has no name."""
    body = text.partition(f"## {section}\n")[2] if section else text
    table = re.search(r"^\|[-:| ]+\|\n((?:\|.*\|\n?)+)", body, re.MULTILINE)
    assert table, section
    for line in table[1].splitlines():
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def measured(section: str, key: str, column: int) -> float:
    [found] = [row[column] for row in rows(RESULTS, section) if row[0] == key]
    return float(found)


def figures(kind: str) -> dict[str, float]:
    """The page's figures for a kind of texts."""
    return {row[0]: float(row[1 + KINDS.index(kind)]) for row in rows(PAGE, "What was measured")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_are_those_of_the_results(kind: str) -> None:
    """Each is in the results as it stands on the page."""
    [core_texts] = [float(row[2]) for row in rows(RESULTS, "") if row[:2] == [kind, "worker"]]
    assert figures(kind) == {
        "core_texts": core_texts,
        "input_bytes": measured("On a broker's disk", kind, 2),
        "result_bytes": measured("On a broker's disk", kind, 3),
        "metric_bytes": measured("On a broker's disk", kind, 4),
        "listener_us": measured("Listener", "random", 1),
        "store_bytes": measured("Listener", "random", 3),
        "audit_bytes": AUDIT_BYTES,
    }


def test_an_audited_result_alone_in_its_batch_is_so_large() -> None:
    """As it is written to the audit topic, and what ends its transaction there: the page's figure is no less."""
    model = ModelIdentity(ModelRef(name="m" * 20, version="1.0.0", digest=f"sha256:{'0123456789abcdef' * 4}"), LABELS)
    text = Encoded(FakeRecord(b"x", 12_345_678), "sentiment.input-3-12345678", None, [1] * 27, False, 0.000723, 0.0)
    scored = Scored(
        text, model, [0.0123456789, 0.9876543211], 0.0234567, 0.00456789, padded_tokens=512, scored_at_s=1.0
    )
    origin, audit = Origin("streamgauge", "worker-1"), Audit(1.0, "")
    written = output_records([scored], origin, audit, model.ref, TopicSettings(), 1_700_000_000.25)
    [record] = [record for record in written if record.topic == TopicSettings().audit]
    batch = DefaultRecordBatchBuilder(2, 3, 1, 1, 1, 1, 10_000)
    batch.append(0, 1_700_000_000_000, record.key, record.value, [*record.headers])
    assert 0.9 * AUDIT_BYTES < len(batch.build()) + MARKER_BYTES <= AUDIT_BYTES


def formula(name: str) -> str:
    """One of the page's."""
    [found] = [formula for its_name, formula, _why in rows(PAGE, "Formulas") if its_name == name]
    return found


def sized(texts_per_s: float, kind: str) -> dict[str, float]:
    """By the page's own formulas."""
    known: dict[str, float] = figures(kind)
    known |= {"texts_per_s": texts_per_s, "labels_per_s": LABELLED * texts_per_s, "window_days": WINDOW_DAYS}
    for name, formula, _why in rows(PAGE, "Formulas"):
        known[name] = eval(formula, {"__builtins__": {}, "ceil": ceil, "max": max}, known)
    return known


def shown(number: float) -> str:
    """Three digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


EXAMPLES = list(rows(PAGE, "Examples"))
SHOWN = ("cores", "replicas", "partitions", "cells", "shards", "store_gb", "broker_tb")
TRAFFIC = ("broker_in_mb_s", "broker_out_mb_s")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: "-".join(example[:2]))
def test_the_examples_are_what_the_formulas_give(example: list[str]) -> None:
    """Each number of each row."""
    found = sized(float(example[0].replace(",", "")), example[1])
    assert example[2:] == [shown(found[name]) for name in (*SHOWN, *TRAFFIC)]


def test_the_largest_example_is_a_million_texts_a_second() -> None:
    """And each kind of number has its row."""
    assert max(float(example[0].replace(",", "")) for example in EXAMPLES) == 1e6


def test_the_other_numbers_of_the_page_are_the_results_too() -> None:
    """Those in its sentences: fp32 against int8, the event loop's share, the memory held."""
    fp32, int8 = (
        float(row[2])
        for text in (RESULTS.partition("## The same weights in fp32")[2], RESULTS)
        for row in rows(text, "")
        if row[:2] == ["short", "worker"]
    )
    assert f"needs {int8 / fp32:.1f} times the cores" in PAGE
    [outside] = [row[1] for row in rows(RESULTS, "Stages") if "outside tokenising" in row[0]]
    assert f"at {float(outside):.0f} µs a text outside the model" in PAGE
    [memory] = [row[2] for row in rows(RESULTS, "Service") if row[0] == "memory"]
    assert f"{float(memory):.0f} MB *measured*" in PAGE
