"""Runs as medians, ratios, a table and a chart. Pure, but for `about`, which asks the machine."""

import json
import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from streamgauge.broker.jars import KAFKA_VERSION
from tests.benchmarks.measuring import Run
from tests.benchmarks.texts import TEXT_SETS
from worker.settings import WorkerSettings

Runs = dict[str, dict[str, list[Run | str]]]
"""By text set and contestant; a string says why there is no run."""
Report = dict[str, Any]
"""{text set: {contestant: {texts_per_s, cpu_s_per_1000, rss_mb, …}}}, and about machine, versions and settings."""

FIGURES = ("texts_per_s", "cpu_s_per_1000", "rss_mb", "batch_texts", "padding_share")
PACKAGES = ("aiokafka", "numpy", "onnxruntime", "tokenizers")
COLOURS = {"ceiling": "#9aa5b1", "worker": "#2364aa", "naive": "#e0a458", "tutorial": "#c8553d"}


def summed_up(runs: Runs, about: Mapping[str, Any]) -> Report:
    """Medians over the rounds, by text set and contestant; the worker's ratios to the others are paired by round."""
    sets = {
        name: {contestant: _medians(measured) for contestant, measured in contestants.items()}
        for name, contestants in runs.items()
    }
    for name, contestants in runs.items():
        if "worker" in contestants:
            sets[name]["worker"]["ratios"] = _ratios(contestants)
    return {**sets, **about}


def _medians(measured: Sequence[Run | str]) -> dict[str, Any]:
    done = [run for run in measured if isinstance(run, Run)]
    if not done:
        return {"missing": measured[-1]}
    figures = {figure: [getattr(run, figure) for run in done] for figure in FIGURES}
    return {
        **{figure: round(statistics.median(values), 4) for figure, values in figures.items()},
        "texts": done[0].texts,
        "rounds": len(done),
        "spread": {figure: round(_spread(figures[figure]), 3) for figure in ("texts_per_s", "cpu_s_per_1000")},
    }


def _spread(values: Sequence[float]) -> float:
    """Largest less smallest, as a share of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def _ratios(contestants: Mapping[str, Sequence[Run | str]]) -> dict[str, dict[str, float]]:
    """How many times the worker's texts a CPU second (`cpu`) and a second (`wall`) are each other contestant's."""
    ratios = {}
    for other in contestants.keys() - {"worker"}:
        pairs = [
            (mine, theirs)
            for mine, theirs in zip(contestants["worker"], contestants[other], strict=True)
            if isinstance(mine, Run) and isinstance(theirs, Run)
        ]
        if pairs:
            ratios[other] = {
                "cpu": round(statistics.median(b.cpu_s_per_1000 / a.cpu_s_per_1000 for a, b in pairs), 3),
                "wall": round(statistics.median(a.texts_per_s / b.texts_per_s for a, b in pairs), 3),
            }
    return ratios


def about(settings: WorkerSettings, own: set[int], others: set[int], rounds: int) -> Report:
    """Machine, versions and settings."""
    cpu_info = Path("/proc/cpuinfo").read_text()
    memory_kb = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0])
    return {
        "machine": {
            "processor": re.findall(r"model name\s*: (.*)", cpu_info)[0] if "model name" in cpu_info else "unknown",
            "cores": os.cpu_count(),
            "memory_gb": round(memory_kb / 1e6),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "load_before": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "kafka": KAFKA_VERSION,
            **{package: version(package) for package in PACKAGES},
        },
        "settings": {
            "model": model_key(settings.model_dir),
            "contestant_cores": len(own),
            "kafka_cores": len(others - own) or len(others),
            "cores_shared": own == others,
            "rounds": rounds,
            **settings.model_dump(include={"max_batch_tokens", "max_records", "commit_interval_s", "commit_records"}),
        },
    }


def model_key(directory: Path) -> str:
    """Name and version, as the model's directory gives them."""
    own = json.loads((directory / "config.json").read_text()).get("streamgauge", {})
    return f"{own.get('name', directory.name)}@{own.get('version', '?')}"


def one_line(contestant: str, run: Run | str) -> str:
    """A run as it ends."""
    if isinstance(run, str):
        return f"{contestant:9} missing: {run}"
    return (
        f"{contestant:9}{run.texts_per_s:8.1f} texts/s{run.cpu_s_per_1000:8.2f} CPU s/1,000{run.rss_mb:6.0f} MB"
        f"{run.batch_texts:6.1f} texts a batch, {run.padding_share:.0%} padding"
    )


def table(report: Report) -> str:
    """Markdown, with what it was measured on."""
    figures = ("texts/s", "CPU s per 1,000", "worker, by CPU", "worker, by clock")
    batches = ("peak RSS MB", "texts a batch", "padding", "spread")
    lines = [
        f"| texts | contestant | {' | '.join((*figures, *batches))} |",
        "|---|---|" + "--:|" * len((*figures, *batches)),
    ]
    for name in _sets(report):
        ratios = report[name].get("worker", {}).get("ratios", {})
        lines += [_row(name, contestant, row, ratios) for contestant, row in report[name].items()]
    return "\n".join([*lines, "", *_notes(report)])


def _sets(report: Report) -> list[str]:
    return [name for name in TEXT_SETS if name in report]


def _row(name: str, contestant: str, figures: Mapping[str, Any], ratios: Mapping[str, Mapping[str, float]]) -> str:
    if "missing" in figures:
        return f"| {name} | {contestant} | missing: {figures['missing']} |"
    ratio = ratios.get(contestant)
    cells = [
        f"{figures['texts_per_s']:.1f}",
        f"{figures['cpu_s_per_1000']:.2f}",
        f"{ratio['cpu']:.2f} x" if ratio else "",
        f"{ratio['wall']:.2f} x" if ratio else "",
        f"{figures['rss_mb']:.0f}",
        f"{figures['batch_texts']:.1f}",
        f"{figures['padding_share']:.0%}",
        f"{figures['spread']['cpu_s_per_1000']:.0%}",
    ]
    return f"| {name} | {contestant} | {' | '.join(cells)} |"


def _notes(report: Report) -> list[str]:
    machine, versions, settings = report["machine"], report["versions"], report["settings"]
    kafka_cores = "the same" if settings["cores_shared"] else f"the other {settings['kafka_cores']}"
    hardware = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}; "
        f"load before: {machine['load_before']:.1f}. "
        f"Contestant's cores: {settings['contestant_cores']}; Kafka's: {kafka_cores}."
    )
    return [
        hardware,
        ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        ", ".join(f"{name} {value}" for name, value in settings.items()) + ". Spread: of CPU time, over the rounds.",
    ]


def document(report: Report, tables: Mapping[str, str]) -> str:
    """A page of all tables: the contestants' first, then those given by their headings."""
    sections = (f"## {heading}\n\n{text}\n" for heading, text in tables.items())
    command = (
        'By `make bench ARGS="--report FILE.md --chart FILE.svg --tutorial-python PYTHON --fp32 DIR"`; '
        "what is compared with what: `tests/benchmarks/speed.py`, how DIR is made: `tests/benchmarks/tutorial.py`."
    )
    return "\n".join(["# What was measured", "", command, "", table(report), "", *sections])


def chart(report: Report) -> str:
    """An SVG of texts per CPU second, the best of each text set (the ceiling, one hopes) being 100 %."""
    bars: list[str] = []
    y = 40
    for name in _sets(report):
        bars.append(
            f'<text x="10" y="{y + 14}" font-weight="bold">{escape(name)}: {escape(TEXT_SETS[name].what)}</text>'
        )
        y += 22
        measured = {key: figures for key, figures in report[name].items() if "missing" not in figures}
        best = min(figures["cpu_s_per_1000"] for figures in measured.values())
        for contestant, figures in measured.items():
            share = best / figures["cpu_s_per_1000"]
            label = f"{share:.0%}, {1000 / figures['cpu_s_per_1000']:.0f} texts per CPU second"
            bars += [
                f'<text x="20" y="{y + 12}">{contestant}</text>',
                f'<rect x="90" y="{y}" width="{400 * share:.0f}" height="15" fill="{COLOURS[contestant]}"/>',
                f'<text x="{96 + 400 * share:.0f}" y="{y + 12}">{label}</text>',
            ]
            y += 19
        y += 14
    title = '<text x="10" y="22" font-size="15">Texts per CPU second, beside what the model alone can do</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{title}{"".join(bars)}</svg>\n'
    )
