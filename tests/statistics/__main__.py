"""The long proofs of the statistics, as tables for a report: `make statistics`.

How often the served sequence excludes the truth in a year, how rare and how late alarms are, what volunteers do to an
accuracy. Some minutes, one core; everything is seeded.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from feedback_listener.evidence import threshold_log10
from tests.statistics import detectors, looks, rules, volunteers
from tests.statistics.detectors import AFTER, DELAYS_H, Source

RATES_PER_H = (20, 100, 1000)
LOOKED_AT_PER_H = (20, 100)
STREAMS = 1000
YEARS = 100
YEAR = 10 ** threshold_log10(365)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print it as Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row) + " |",
            flush=True,
        )
    print()


def sequences(streams: int) -> None:
    """Looks for a year."""
    intervals = {"served sequence": looks.served, "alpha not shared out": looks.unshared, "Wilson 95 %": looks.wilson}
    print(f"## Streams of {streams} that see the truth excluded, looked at each minute of a year\n")

    def row(rate: float, truth: float) -> list[object]:
        shares = looks.shares_that_exclude(intervals, rate, truth, streams, looks.HALVES_PER_YEAR)
        return [rate, truth, *(f"{share:.1%}" for share in shares.values())]

    # A row takes minutes, and is printed when it is there.
    table(
        ["labels an hour", "truth", *intervals],
        (row(rate, truth) for rate in LOOKED_AT_PER_H for truth in (0.8, 0.88, 0.95)),
    )


def evidence(years: int) -> None:
    """Alarms and delays of both detectors."""
    print(f"## e-detector, threshold one year: alarms a year, over {years} years\n")
    rows: list[list[object]] = []
    for rate in RATES_PER_H:
        for accuracy in (0.80, 0.82, 0.85):
            first, second = (Source(rate, years, np.random.default_rng(seed)) for seed in (1, 2))
            alarms = detectors.alarms_a_year(partial(first.level, accuracy), YEAR, years)
            served = detectors.episodes_a_year(partial(second.level, accuracy), YEAR, years)
            rows.append([rate, f"level, {accuracy}", alarms, served])
    for rate in LOOKED_AT_PER_H:
        for spare in (0.0, 0.02):
            first, second = (Source(rate, years, np.random.default_rng(seed)) for seed in (1, 2))
            alarms = detectors.alarms_a_year(partial(first.promised, spare), YEAR, years)
            served = detectors.episodes_a_year(partial(second.promised, spare), YEAR, years)
            rows.append([rate, f"concept drift, {spare} to spare", alarms, served])
    table(["labels an hour", "claim and accuracy", "restarted after each", "as served: 7 days, kept for 6 h"], rows)
    print("## Median delay in hours after a drop from 0.88, and what is wanted; without the horizon\n")
    rows = []
    for rate, wanted in DELAYS_H.items():
        found = [detectors.delay_h(Source(rate, STREAMS, np.random.default_rng(1)), after, YEAR) for after in AFTER]
        rows.append([rate, *(f"{was:.2f} ({most})" for was, most in zip(found, wanted, strict=True))])
    table(["labels an hour", *map(str, AFTER)], rows)


def drift(streams: int = 300) -> None:
    """How late concept drift is found, by the detector and by the rule on Wilson's interval."""
    print("## Median delay in hours after accuracy falls below what confidences promise\n")
    losses = (0.05, 0.1, 0.2)
    rows: list[list[object]] = []
    for rate in RATES_PER_H:
        row: list[object] = [rate]
        for loss in losses:
            of = Source(rate, streams, np.random.default_rng(1))
            found_h = detectors.drift_delay_h(of, loss, YEAR)
            old_h = rules.delay_minutes(rules.confidence_diverges, rules.texts(rate, 0), rules.texts(rate, loss)) / 60
            row.append(f"{found_h:.2f} / {old_h:.2f}")
        rows.append(row)
    table(["labels an hour", *(f"by {loss}: detector / ConfidenceDiverges" for loss in losses)], rows)


def alerts(years: int) -> None:
    """Each rule on a proportion in healthy years."""
    print(f"## Episodes a year of alerts on proportions, over {years} healthy years\n")
    rows: list[list[object]] = []
    for rate in RATES_PER_H:
        found = [
            rules.false_alarms_a_year(rules.accuracy_low, [rules.Kind(rate, 1 - of)], 8) for of in (0.8, 0.82, 0.85)
        ]
        rows.append([rate, *found])
    table(["AccuracyLow as it was: labels an hour", "0.80", "0.82", "0.85"], rows)
    rows = []
    for name, alert in rules.HEALTHY.items():
        for kinds in alert.healthy:
            found_a_year = rules.false_alarms_a_year(alert.rule, kinds, years, alert.keep_firing_minutes)
            rows.append([name, round(sum(kind.per_h for kind in kinds)), found_a_year])
    table(["alert, share in truth", "events an hour", "episodes a year"], rows)
    rows = []
    for rate in (20, 50, 100, 300, 1000):
        delays = [
            rules.delay_minutes(rules.collapse(), [rules.Kind(rate, 0.12)], [rules.Kind(rate, 1 - after)])
            for after in (0.6, 0.5, 0.3)
        ]
        rows.append([rate, *delays])
    table(["AccuracyCollapsed: labels an hour", "minutes to find 0.6", "0.5", "0.3"], rows)


def audits(path: Path | None, repetitions: int = 1000) -> None:
    """On real texts."""
    texts = volunteers.samples(path)
    found = volunteers.volunteer(volunteers.is_right(texts), repetitions)
    print(f"## {len(texts)} real texts, {repetitions} repetitions of {volunteers.PREDICTIONS} predictions\n")
    table(found._fields, [[f"{of:.2%}" for of in found]])


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=STREAMS, help="of labels, looked at for a year")
    parser.add_argument("--years", type=int, default=YEARS, help="under each detector and each alert")
    parser.add_argument("--texts", type=Path, help="a .tsv file with columns text and label, instead of the sample")
    arguments = parser.parse_args()
    audits(arguments.texts)
    alerts(max(8, arguments.years // 4))
    evidence(arguments.years)
    drift()
    sequences(arguments.streams)


if __name__ == "__main__":
    main()
