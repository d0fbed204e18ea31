"""All checks, in the order in which an operator would look: from the brokers outwards."""

from streamgauge.commands.doctor import (
    broker_checks,
    feedback_checks,
    group_checks,
    machine_checks,
    prometheus_checks,
    topic_checks,
)

CHECKS = (
    *broker_checks.CHECKS,
    *topic_checks.CHECKS,
    *group_checks.CHECKS,
    *machine_checks.CHECKS,
    *feedback_checks.CHECKS,
    *prometheus_checks.CHECKS,
)
