"""Throughput and latency out of metric events, and the moments that people ask for."""

import math
from collections import Counter
from datetime import UTC, datetime

import msgspec
import pytest

from streamgauge.commands.reading import moment_ms, seconds
from streamgauge.commands.stats import Stats, add_all, quantile
from streamgauge.errors import ConfigurationError
from streamgauge.events import CoveredByModel, Histogram, ModelRef, TransactionMeasured, decode_measurement, encode

MINUTE_S = datetime(2026, 1, 31, 12, 0, tzinfo=UTC).timestamp()
EDGES = (0.1, 1.0, 2.0)


def event(at_s: float, counts: tuple[int, int, int, int], *, worker: str = "a", dead: int = 0) -> bytes:
    """A transaction that began `at_s` seconds after the minute; `counts` are its records by latency."""
    records = sum(counts)
    measured = TransactionMeasured(
        worker=worker,
        model=ModelRef(name="m", version="1", digest="d"),
        topic="sentiment.input",
        partition=0,
        first_offset=0,
        last_offset=records - 1,
        records=records,
        labels={"POSITIVE": records - dead},
        dead_letters={"not_utf8": dead} if dead else {},
        truncated=0,
        tokens=30,
        padded_tokens=40.0,
        tokenize_s=0.1,
        queue_s=0.2,
        infer_s=0.4,
        latency=Histogram(edges=EDGES, counts=counts, sum=1.0, max=4.0 if counts[3] else 1.0),
        began_at=datetime.fromtimestamp(MINUTE_S + at_s, UTC).isoformat(),
    )
    return encode(measured)


BROKEN = event(300, (1, 1, 1, 1)).replace(b'"counts":[1,', b'"counts":[')
"""An event whose histogram lacks a count."""


def test_throughput_and_latency_by_minute_and_of_all() -> None:
    """Rates are over the time that was really covered, quantiles over all records of a row."""
    stats = Stats("time", 60)
    add_all(
        stats,
        [event(30, (10, 0, 0, 0)), event(59, (0, 10, 0, 0)), event(90, (0, 0, 0, 40), dead=20), b"{}", None, BROKEN],
    )
    rows = stats.rows()
    assert list(rows) == ["2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z", "all"]
    first, second, together = rows.values()
    assert first["records"] == 20
    assert first["records_per_s"] == pytest.approx(20 / 30)
    assert first["p50_s"] == pytest.approx(0.1)
    assert (second["records"], second["dead_letters"]) == (40, 20)
    assert second["records_per_s"] == pytest.approx(40 / 30)
    assert (together["records"], together["transactions"]) == (60, 3)
    assert together["records_per_s"] == pytest.approx(1)
    # Of 60 records the 57th is the 37th of the 40 between 2 and 4 s.
    assert together["p95_s"] == pytest.approx(2 + 2 * 37 / 40)
    assert together["max_s"] == 4
    assert together["infer_ms"] == pytest.approx(1200 / 40)
    assert together["padding"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("by", "names"), [("worker", ["a", "b"]), ("partition", ["sentiment.input-0"]), ("model", ["m@1"])]
)
def test_rows_can_be_something_else_than_time(by: str, names: list[str]) -> None:
    """By worker, partition or model, each over the whole time."""
    stats = Stats(by, 60)  # type: ignore[arg-type]
    add_all(stats, [event(0, (10, 0, 0, 0)), event(10, (30, 0, 0, 0), worker="b")])
    rows = stats.rows()
    assert list(rows) == [*names, "all"]
    assert sum(rows[name]["records_per_s"] or 0 for name in names) == rows["all"]["records_per_s"] == 4


def test_nothing_gives_no_rows_and_one_transaction_no_rate() -> None:
    """Where there is nothing to divide by there is no number."""
    stats = Stats("time", 60)
    assert stats.rows() == {}
    add_all(stats, [event(0, (10, 0, 0, 0))])
    assert stats.rows()["all"]["records_per_s"] is None


def test_quantile() -> None:
    """Linear within a bucket, cut at the largest value; nothing of nothing."""
    assert quantile(Counter(), 0.5, 0.0) is None
    assert quantile(Counter({1.0: 10, math.inf: 0}), 0.5, 0.9) == pytest.approx(0.45)
    assert quantile(Counter({1.0: 0, math.inf: 10}), 0.5, 3.0) == pytest.approx(2.0)


def test_moments() -> None:
    """So long ago, a time with or without its zone, or the beginning."""
    now_ms = 1_000_000_000_000
    assert moment_ms("90s", now_ms) == now_ms - 90_000
    assert moment_ms("earliest", now_ms) == 0
    assert moment_ms("2026-01-31T12:00", now_ms) == MINUTE_S * 1000
    assert moment_ms("2026-01-31T13:00+01:00", now_ms) == MINUTE_S * 1000
    assert seconds("2d") == 172_800
    for wrong in ("yesterday", "1w", "-1h", ""):
        with pytest.raises(ConfigurationError, match="earliest"):
            moment_ms(wrong, now_ms)
    with pytest.raises(ConfigurationError, match="90s"):
        seconds("0m")


def of_two_models() -> TransactionMeasured:
    """A transaction of 12 records, of which another model than `m@1` scored 2."""
    whole = decode_measurement(event(0, (12, 0, 0, 0)))
    shared = {name: getattr(whole, name) for name in CoveredByModel.__struct_fields__ if name != "model"}
    parts = [
        CoveredByModel(
            **shared
            | {
                "records": records,
                "labels": {"POSITIVE": records},
                "latency": Histogram(edges=EDGES, counts=(records, 0, 0, 0), sum=1.0, max=1.0),
            },
            model=ModelRef(name=name, version="1", digest="d"),
        )
        for name, records in (("m", 10), ("n", 2))
    ]
    return msgspec.structs.replace(whole, models=parts)


def test_a_transaction_of_two_models_counts_for_both() -> None:
    """By model, each row has its part; by anything else, and in the sum, the transaction is one."""
    stats = Stats("model", 60)
    add_all(stats, [event(0, (5, 0, 0, 0)), encode(of_two_models())])
    assert {name: row["records"] for name, row in stats.rows().items()} == {"m@1": 15, "n@1": 2, "all": 17}
    assert stats.rows()["all"]["transactions"] == 2
    by_worker = Stats("worker", 60)
    by_worker.add(of_two_models())
    assert by_worker.rows()["a"]["records"] == 12


def test_a_transaction_with_a_broken_part_counts_for_nobody() -> None:
    """Neither its sum nor its first part."""
    stats = Stats("model", 60)
    broken = encode(of_two_models()).replace(b'"counts":[2,', b'"counts":[')
    add_all(stats, [broken])
    assert stats.rows() == {}


@pytest.mark.parametrize("number", [b"-1", b"1" + b"0" * 400])
def test_numbers_that_cannot_be_summed_up_are_left_out(number: bytes) -> None:
    """No worker writes them, and nothing could be divided by them. Nor is there an end of what JSON may nest."""
    stats, odd = Stats("time", 60), event(0, (5, 0, 0, 0)).replace(b'"records":5', b'"records":' + number)
    add_all(stats, [odd, b'{"x":' + b"[" * 5000, event(0, (3, 0, 0, 0))])
    assert stats.rows()["all"]["records"] == 3
