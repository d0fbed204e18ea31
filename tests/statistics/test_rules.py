"""Alerts on proportions fire less than once in a healthy year, and soon after a fault; a slice of `make statistics`."""

import numpy as np
import pytest

from tests.statistics.alerting import episodes, held, window_sums
from tests.statistics.rules import (
    HEALTHY,
    Kind,
    accuracy_low,
    collapse,
    delay_minutes,
    false_alarms_a_year,
    share_above,
)

YEARS = 8


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_year_has_less_than_one_alarm(name: str) -> None:
    """At the lowest rate that is plausible, where chance is greatest."""
    alert = HEALTHY[name]
    assert false_alarms_a_year(alert.rule, alert.healthy[0], YEARS, alert.keep_firing_minutes) < 1


def test_the_old_rule_fails_this() -> None:
    """Control: Wilson's interval, asked each minute, at 82 % true accuracy."""
    assert false_alarms_a_year(accuracy_low, [Kind(20, 0.18)], 4) > 50


def test_standard_errors_fail_this_at_a_high_floor() -> None:
    """Control: 5.5 of them, which are enough at 80 %, at a floor of 95 %."""
    rule = share_above(0.05, 5, z=5.5, least=20)
    assert false_alarms_a_year(rule, [Kind(300, 0.05)], 4, 30) > 2


def test_a_collapse_is_found_within_the_hour() -> None:
    """To 50 %, with 100 labels an hour; the matured minutes alone would take an hour and a half."""
    assert delay_minutes(collapse(), [Kind(100, 0.12)], [Kind(100, 0.5)], days=1) <= 60


def test_alerts_are_counted_as_prometheus_does() -> None:
    """`for` wants the condition at every look; `keep_firing_for` bridges gaps; windows hold so many minutes."""
    condition = np.array([[0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]], bool).T
    assert held(condition, 2).T.nonzero()[1].tolist() == [3, 7, 13]
    assert [episodes(condition, keep) for keep in (0, 1, 2, 3)] == [3, 2, 2, 1]
    assert episodes(np.repeat(condition, 2, axis=1)) == 6
    assert window_sums(np.arange(6)[:, None], 3)[:, 0].tolist() == [0, 1, 3, 6, 9, 12]
