"""Whether Prometheus sees all of it, and tells somebody."""

from collections.abc import Iterator

from streamgauge.commands.doctor.checks import Found, check
from streamgauge.commands.doctor.group_checks import workers
from streamgauge.commands.doctor.picture import NotSeen, Picture, Unseen, seen

RULE_GROUPS = frozenset(
    {
        "streamgauge-accuracy",
        "streamgauge-accuracy-alerts",
        "streamgauge-audit",
        "streamgauge-capacity",
        "streamgauge-delivery-alerts",
        "streamgauge-confidence",
        "streamgauge-feedback",
        "streamgauge-groups",
        "streamgauge-latency",
        "streamgauge-latency-alerts",
        "streamgauge-process-alerts",
        "streamgauge-throughput",
    }
)
"""Of the files in dashboards/rules."""
WORKER_JOB, LISTENER_JOB = "streamgauge-worker", "streamgauge-listener"
"""Rules and dashboards know these names."""


@check(
    "rules-missing",
    why="Dashboards and alerts read what the rules record; without them the panels are empty, and nothing fires.",
    source="https://github.com/prometheus/prometheus/issues/5349",
)
def rules_missing(picture: Picture) -> Iterator[Found]:
    """Prometheus has not loaded all rules, or a rule fails."""
    prometheus = seen(picture.prometheus)
    if missing := RULE_GROUPS - prometheus.rule_groups:
        yield Found(
            f"Prometheus has no rules {', '.join(sorted(missing))}",
            "name dashboards/rules/*.yml under rule_files, promtool check config FILE, then: kill -HUP PROMETHEUS",
        )
    if prometheus.failing_rules:
        told = (f"{name} ({error})" for name, error in sorted(prometheus.failing_rules.items()))
        yield Found(
            f"rules fail: {', '.join(told)}",
            "take rules of the version that runs: dashboards/rules; and give each deployment a Prometheus of its own",
        )


@check(
    "targets-missing",
    why="Counters of replicas add up only when each is scraped by itself; behind one address they jump to and fro.",
    source="https://github.com/prometheus-net/prometheus-net/issues/439",
)
def targets_missing(picture: Picture) -> Iterator[Found]:
    """Prometheus scrapes fewer workers than there are, or no listener."""
    up = seen(picture.prometheus).targets_up
    scraped = up.get(WORKER_JOB, 0)
    count = 0 if isinstance(picture.cluster.groups, Unseen) else len(workers(picture))
    if scraped < count:
        yield Found(
            f"{count} workers are in the group, and {scraped} targets of the job {WORKER_JOB} answer",
            f"scrape each replica by itself, under job_name: {WORKER_JOB}, as in infra/prometheus/prometheus.yml",
        )
    if not up.get(LISTENER_JOB):
        yield Found(
            f"no target of the job {LISTENER_JOB} answers",
            f"streamgauge listen, and scrape it under job_name: {LISTENER_JOB}, as in infra/prometheus/prometheus.yml",
        )


@check(
    "alertmanager-missing",
    why="Alerts fire, and nobody is told.",
    source="https://github.com/ernestas-poskus/ansible-prometheus/issues/37",
)
def alertmanager_missing(picture: Picture) -> Iterator[Found]:
    """Prometheus knows no Alertmanager."""
    if not seen(picture.prometheus).alertmanagers:
        yield Found(
            "Prometheus sends its alerts to no Alertmanager",
            "name one under alerting.alertmanagers, as in infra/prometheus/prometheus.yml, then: kill -HUP PID",
        )


@check(
    "shard-missing",
    why="The accuracy shown is that of the other partitions, and nothing says so.",
    source="https://github.com/thaum-xyz/ankhmorpork/pull/1273",
)
def shard_missing(picture: Picture) -> Iterator[Found]:
    """No scraped listener reads some partitions of the results."""
    listened, results = seen(picture.prometheus).listened, picture.setup.topics.results
    if not listened:
        raise NotSeen("Prometheus scrapes no listener")
    missing = [number for number in range(picture.topic(results).partitions) if (results, number) not in listened]
    if missing:
        yield Found(
            f"no listener that Prometheus scrapes reads {results}, partitions {', '.join(map(str, missing))}",
            "start the shards that are missing: streamgauge listen --shard NUMBER/OF",
        )


CHECKS = (rules_missing, targets_missing, alertmanager_missing, shard_missing)
