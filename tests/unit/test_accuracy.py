"""`streamgauge accuracy`: which numbers are whose, and what is said where there are none."""

import pytest

from feedback_listener import accuracy
from feedback_listener.accuracy import as_json, from_listeners
from feedback_listener.recount_records import Values, series_of

READY = """
streamgauge_listener_time_seconds 5
streamgauge_listener_ready 1
streamgauge_audit_horizon_seconds 3600
streamgauge_audit_accuracy_floor 0.8
"""


def test_audit_and_labels_stand_side_by_side() -> None:
    """Each with its samples and its interval; the audit's also with that of all looks together."""
    values = judged(0, right=8, wrong=2) | {
        series_of("streamgauge_predictions", model="m@1", partition=0, window="all"): 50.0,
        series_of("streamgauge_audit_predictions", model="m@1", window="all"): 5.0,
        series_of("streamgauge_audit_judged", model="m@1", window="all"): 4.0,
        series_of("streamgauge_audit_correct", model="m@1", window="all"): 3.0,
        series_of("streamgauge_audit_accuracy_high", model="m@1"): 0.99,
    }
    [model] = as_json(accuracy.Numbers("a test", 0, values))["models"].values()
    assert model["confidence_sequence"] == (0, 0.99)
    labels, audit = model["accuracy"]["all"].values()
    assert labels == {"accuracy": 0.8, "right": 8, "judged": 10, "predictions": 50, "wilson": approx(0.49, 0.943)}
    assert audit == {"accuracy": 0.75, "right": 3, "judged": 4, "predictions": 5, "wilson": approx(0.301, 0.954)}
    assert model["accuracy"]["5m"]["labels"]["accuracy"] is None


async def test_shards_are_added_and_copies_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is behind shows less of the same series."""
    served = {"a": judged(0, right=8, wrong=2), "copy": judged(0, right=7, wrong=2), "b": judged(1, right=1, wrong=1)}

    async def scrape(url: str) -> str:
        lines = []
        for (name, labels), n in served[url].items():
            text = ",".join(f'{key}="{value}"' for key, value in labels)
            lines.append(f"{name}{{{text}}} {n}")
        return "\n".join([*lines, READY])

    monkeypatch.setattr(accuracy, "scrape", scrape)
    numbers = await from_listeners(["a", "copy", "b"])
    [model] = as_json(numbers)["models"].values()
    assert (model["accuracy"]["all"]["labels"]["right"], model["accuracy"]["all"]["labels"]["judged"]) == (9, 12)
    assert numbers.source == "the listener at a and copy and b"


def judged(partition: int, *, right: int, wrong: int) -> Values:
    def series(predicted: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        of = {"model": "m@1", "window": "all", "expected": "POSITIVE", "predicted": predicted}
        return series_of("streamgauge_judged_predictions", partition=partition, **of)

    return {series("POSITIVE"): float(right), series("NEGATIVE"): float(wrong)}


def approx(low: float, high: float) -> object:
    return pytest.approx((low, high), abs=0.001)
