"""What the audit says of one model: how right it is, how sure that is, and whether it got worse. Pure.

Predictions are chosen for the audit by chance, so the share of them that is right is that of all, whoever labels what
besides. Each listener reads the whole audit topic: its numbers are not to be added over listeners, they are equal.
"""

from collections.abc import Mapping
from typing import NamedTuple

from feedback_listener.confidence_sequence import Interval, alpha_each, confidence_sequence, sequence_start_ms
from feedback_listener.evidence import DRIFT_TOLERANCE, MINUTES_PER_DAY, Minute, evidence
from feedback_listener.tally import MINUTE_MS, PROBABILITY_UNITS

LOOK_BACK_MINUTES = 30 * MINUTES_PER_DAY
"""However long the window is: what is older says nothing of a drop that nobody has noticed, and takes time."""


class AuditMinute(NamedTuple):
    """Sums over the audited predictions of one minute, or a change of such sums. See `join.py` for the words."""

    predictions: int = 0
    confidence: int = 0
    """In PROBABILITY_UNITS."""
    judged: int = 0
    right: int = 0
    judged_in_time: int = 0
    right_in_time: int = 0

    def __add__(self, other: tuple[int, ...]) -> "AuditMinute":  # type: ignore[override]
        return AuditMinute(*map(int.__add__, self, other))


class Terms(NamedTuple):
    """What intervals and alarms go by."""

    window_ms: int
    """How long predictions are retained."""
    maturity_ms: int
    """How long after its end a minute of the audit waits for labels."""
    floor: float
    """The accuracy that must hold."""
    threshold_log10: float
    """The evidence from which on there is an alarm."""


class Standing(NamedTuple):
    """Of one model at one moment. The sequence is of minutes that have matured."""

    pending: int
    unanswered: int
    sequence_start_ms: int
    sequence_predictions: int
    sequence_judged: int
    sequence_right: int
    sequence: Interval


class Claims(NamedTuple):
    """log10 of the evidence against what is claimed of one model."""

    level: float
    """That its accuracy is not below the floor."""
    drift: float
    """That it is not below what its confidences promise."""


def standing(minutes: Mapping[int, AuditMinute], now_ms: int, matured: int, terms: Terms) -> Standing:
    """`minutes` by their number since the epoch, all that are retained; `matured`: the first that has not matured."""
    start_ms = sequence_start_ms(now_ms, terms.window_ms)
    since = [sums for minute, sums in minutes.items() if start_ms <= minute * MINUTE_MS and minute < matured]
    n, judged, right = (sum(getattr(sums, name) for sums in since) for name in ("predictions", "judged", "right"))
    unjudged = {minute: sums.predictions - sums.judged for minute, sums in minutes.items()}
    unanswered = sum(count for minute, count in unjudged.items() if minute < matured)
    return Standing(
        sum(unjudged.values()) - unanswered,
        unanswered,
        start_ms,
        n,
        judged,
        right,
        confidence_sequence(right, n, alpha_each(terms.window_ms), n - judged),
    )


def claims(minutes: Mapping[int, AuditMinute], matured: int, floor: float) -> Claims:
    """The evidence of the matured minutes of the last LOOK_BACK_MINUTES."""
    first = max(matured - LOOK_BACK_MINUTES, min(minutes, default=matured))
    nothing = AuditMinute()
    closed = [minutes.get(minute, nothing) for minute in range(first, matured)]
    return Claims(
        evidence(_against(sums, floor * sums.predictions) for sums in closed),
        evidence(_against(sums, _promise(sums)) for sums in closed),
    )


def _against(sums: AuditMinute, promised: float) -> Minute:
    wrong = sums.judged_in_time - sums.right_in_time
    return Minute(sums.predictions - wrong, sums.predictions, promised)


def _promise(sums: AuditMinute) -> float:
    return max(0.0, sums.confidence / PROBABILITY_UNITS - DRIFT_TOLERANCE * sums.predictions)
