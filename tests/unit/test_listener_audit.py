"""What a listener makes of the audit topic: counted apart, closed when minutes mature, and equal in every shard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback_listener.audit import AuditMinute, Terms, claims, standing
from feedback_listener.confidence_sequence import alpha_each, confidence_sequence, sequence_start_ms
from feedback_listener.settings import ListenerSettings
from feedback_listener.tally import MINUTE_MS, PROBABILITY_UNITS
from streamgauge.errors import ConfigurationError
from tests.replica import Replica
from tests.truth import DAY_MS, HOUR_MS, Labelled, Record, Scored

NOW_MS = 1_800_000_012_345
TERMS = Terms(7 * DAY_MS, HOUR_MS, 0.8, 5.7)


class Audit:
    """Predictions of both topics, and labels, so many minutes ago."""

    def __init__(self, folder: Path) -> None:
        self.replica = Replica(folder / "listener.sqlite", NOW_MS - 2 * DAY_MS, TERMS.window_ms)
        self._offset = 0

    def predict(self, message_id: str, minutes_ago: float, *, is_audited: bool = True) -> None:
        scores = {"NEGATIVE": 0.25, "POSITIVE": 0.75}
        self._apply(Scored(message_id, 0, self._next(), self._at(minutes_ago), "POSITIVE", scores, "m@1", is_audited))

    def label(self, message_id: str, value: str, minutes_ago: float) -> None:
        self._apply(Labelled(message_id, 0, self._next(), self._at(minutes_ago), value))

    def _at(self, minutes_ago: float) -> int:
        return round(NOW_MS - minutes_ago * MINUTE_MS)

    def _next(self) -> int:
        self._offset += 1
        return self._offset

    def _apply(self, record: Record) -> None:
        self.replica.apply([record], NOW_MS)

    def shown(self) -> dict[str, float]:
        """What is said of the audit, over the whole retention."""
        found = self.replica.exported()
        return {str(name): n for (name, *labels), n in found.items() if labels in (["m@1"], ["m@1", "all"])}


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    """Nothing read yet."""
    audit = Audit(tmp_path)
    yield audit
    audit.replica.store.close()


def test_an_audited_prediction_counts_apart(audit: Audit) -> None:
    """The same prediction stands in the results too, and its one label judges both."""
    for is_audited in (False, True):
        audit.predict("a", 1, is_audited=is_audited)
    audit.label("a", "NEGATIVE", 0.5)
    assert audit.replica.exported()["predictions", "m@1", 0, "all"] == 1
    assert audit.replica.totals.snapshot() == (1, 0)
    shown = audit.shown()
    assert (shown["audit_predictions"], shown["audit_judged"]) == (1, 1)
    assert "audit_correct" not in shown
    assert audit.replica.exported()["matched_labels", 0, "recent"] == 1


def test_what_has_no_label_is_pending_and_then_unanswered(audit: Audit) -> None:
    """The horizon is an hour here; a label that comes later still answers."""
    audit.predict("new", 30)
    audit.predict("old", 90)
    shown = audit.shown()
    assert (shown["audit_pending"], shown["audit_unanswered"]) == (1, 1)
    audit.label("old", "POSITIVE", 1)
    assert "audit_unanswered" not in audit.shown()


def test_no_later_label_changes_a_matured_minute(audit: Audit) -> None:
    """It changes what is known of the accuracy, and nothing that an alarm goes by."""
    audit.predict("a", 90)
    audit.label("a", "NEGATIVE", 60)
    before = audit.shown()
    assert (before["audit_matured_judged"], before["audit_judged"]) == (1, 1)
    assert before["audit_level_evidence_log10"] > 0
    audit.label("a", "POSITIVE", 10)
    after = audit.shown()
    assert (after["audit_correct"], after["audit_matured_judged"]) == (1, 1)
    assert "audit_matured_correct" not in after
    for name in ("audit_level_evidence_log10", "audit_drift_evidence_log10"):
        assert after[name] == before[name]


def test_a_restart_repeats_everything(audit: Audit) -> None:
    """To the bit, from the file."""
    for number in range(20):
        audit.predict(str(number), 70 + number * 7)
        audit.label(str(number), "NEGATIVE" if number % 3 else "POSITIVE", 65 + number)
    before = audit.replica.exported()
    audit.replica.restart(NOW_MS)
    assert audit.replica.exported() == before


def minutes_of(total: int, right_every: int, unanswered_every: int = 0) -> dict[int, AuditMinute]:
    """One prediction a minute, up to an hour ago, judged in time or not at all."""
    now = NOW_MS // MINUTE_MS
    confidence = round(0.9 * PROBABILITY_UNITS)
    found = {}
    for number in range(total):
        judged = int(not unanswered_every or number % unanswered_every != 0)
        right = int(number % right_every != 0) * judged
        found[now - 61 - number] = AuditMinute(1, confidence, judged, right, judged, right)
    return found


def test_evidence_says_of_what_it_is() -> None:
    """A model that keeps the floor, and not its own promise of 90 %; one that keeps both; one that keeps neither."""
    matured = (NOW_MS - HOUR_MS) // MINUTE_MS
    shifted, well, bad = (claims(minutes_of(3000, every), matured, TERMS.floor) for every in (6, 20, 2))
    for found, is_low, has_drifted in ((shifted, False, True), (well, False, False), (bad, True, True)):
        assert (found.level >= TERMS.threshold_log10) is is_low
        assert (found.drift >= TERMS.threshold_log10) is has_drifted


def test_what_nobody_answers_hides_and_never_alarms() -> None:
    """Wrong answers alone are answered, one of twenty: nine of ten are then right at best, and the interval is wide."""
    minutes = minutes_of(3000, 1, 20) | {m: AuditMinute(1, 900_000) for m in minutes_of(3000, 1) if m % 10}
    matured = (NOW_MS - HOUR_MS) // MINUTE_MS
    found = standing(minutes, NOW_MS, matured, TERMS)
    assert claims(minutes, matured, TERMS.floor).level < TERMS.threshold_log10 / 2
    assert found.sequence.low == 0
    assert found.sequence.high > 0.9


def test_the_sequence_begins_at_a_fixed_moment() -> None:
    """Of matured minutes that are retained from then on, and of nothing before: no look starts it again."""
    start_ms = sequence_start_ms(NOW_MS, TERMS.window_ms)
    first = start_ms // MINUTE_MS
    one = AuditMinute(predictions=10, judged=9, right=8)
    minutes = {first - 1: AuditMinute(predictions=100, judged=100), first: one, first + 1: one}
    found = standing(minutes, NOW_MS, first + 1, TERMS)
    assert (found.sequence_start_ms, found.sequence_predictions, found.sequence_judged) == (start_ms, 10, 9)
    assert (found.pending, found.unanswered) == (1, 1)
    assert found.sequence == confidence_sequence(8, 10, alpha_each(TERMS.window_ms), 1)


@pytest.mark.parametrize(
    ("window_days", "name", "wrong"),
    [(7, "audit_horizon_hours", 100), (7, "false_alarm_days", 13), (90, "false_alarm_days", 59)],
)
def test_settings_that_make_alarms_blind_or_baseless_are_refused(window_days: int, name: str, wrong: float) -> None:
    """A horizon that nothing reaches; a threshold that is reached without any label."""
    with pytest.raises(ConfigurationError, match=name.upper()):
        ListenerSettings().model_copy(update={name: wrong}).terms(window_days * DAY_MS)
    assert ListenerSettings().terms(window_days * DAY_MS)


def test_sums_can_be_retracted() -> None:
    """A change and its opposite are nothing."""
    one, minus = AuditMinute(1, 1, 1, 1, 0, 5), AuditMinute(-1, -1, -1, -1, 0, -5)
    assert one + minus == AuditMinute()
    assert not any(one + minus)
