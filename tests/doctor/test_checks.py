"""Each check finds its misconfiguration in a sound picture that is broken in one way, and no other check does."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from feedback_listener.settings import Shard
from streamgauge.commands.doctor.checks import Check, examine
from streamgauge.commands.doctor.every_check import CHECKS
from streamgauge.commands.doctor.machine_checks import STORED_PREDICTION_BYTES
from streamgauge.commands.doctor.picture import Answer, Cluster, Door, Group, Member, Picture, Span, Unseen
from streamgauge.commands.doctor.prometheus_checks import LISTENER_JOB, RULE_GROUPS, WORKER_JOB
from streamgauge.commands.doctor.report import as_page, as_text
from streamgauge.coordination import LOGS
from streamgauge.settings import DAY_MS
from tests.cluster import ROOT
from tests.doctor.pictures import (
    END,
    PARTITIONS,
    RETAINED,
    TOPICS,
    cluster,
    committed,
    input_offsets,
    listener_samples,
    sharded,
    sound,
    with_another,
    with_answers,
    with_cluster,
    with_config,
    with_group,
    with_labels,
    with_machine,
    with_prometheus,
    with_setup,
    with_spans,
    with_store,
    with_topic,
    with_worker,
    without_topic,
    worker_member,
    worker_samples,
)

Change = Callable[[Picture], Picture]
SHORT = str(2 * DAY_MS)
FULL = OffsetAndMetadata(END + 5, "")
OUTPUT = TopicPartition(TOPICS.results, 0)
SPY = Group("Stable", (), {OUTPUT: OffsetAndMetadata(END + 3, "")})


def door(**parts: Any) -> Change:
    """Kafka as it is when not even its door opens."""
    return lambda picture: replace(picture, door=Door(**parts), cluster=Cluster.unseen("the door is shut"))


def without_log(picture: Picture) -> Picture:
    """The transactions' topic has not been made yet."""
    return without_topic(picture, "__transaction_state")


def with_members(*members: Member) -> Change:
    def change(picture: Picture) -> Picture:
        up = {WORKER_JOB: len(members), LISTENER_JOB: 1}
        return with_prometheus(with_group(picture, members=members), targets_up=up)

    return change


def with_stranger(client_id: str, topic: str = TOPICS.input) -> Change:
    stranger = Member(client_id, frozenset({topic}))
    return with_members(worker_member(0), stranger)


def nobody_works(picture: Picture) -> Picture:
    """And nobody is scraped."""
    idle = with_group(picture, members=(), state="Empty", offsets=input_offsets(END - 7))
    return with_prometheus(idle, targets_up={LISTENER_JOB: 1})


def deleted(picture: Picture) -> Picture:
    return with_group(picture, offsets=input_offsets(RETAINED - 5))


def beyond(offset: OffsetAndMetadata) -> Change:
    own = {TopicPartition(TOPICS.input, 0): offset}
    return lambda picture: with_group(picture, offsets=input_offsets() | own)


def another_worker(picture: Picture) -> Picture:
    return with_another(picture, "blue", Group("Stable", (worker_member(9),), input_offsets(END - 1)))


def on_port(service: str) -> Change:
    """Something that is not ours answers in a service's place."""
    return lambda picture: with_answers(
        picture, *(answer._replace(samples=None) if answer.service == service else answer for answer in picture.answers)
    )


def behind_s(seconds: float) -> Change:
    return lambda picture: with_answers(picture, *(each._replace(skew_s=seconds) for each in picture.answers))


def with_horizon(picture: Picture) -> Picture:
    listener = picture.setup.listener.model_copy(update={"audit_horizon_hours": 168.0})
    return with_setup(picture, listener=listener)


BREAKAGES: list[tuple[str, Change]] = [
    ("kafka-unreachable", door(silence="no Kafka broker answered")),
    ("kafka-login", door(refusal="the password is wrong")),
    ("kafka-address", door(deaf=("kafka:9092",))),
    ("kafka-address", lambda picture: replace(picture, door=Door(deaf=("kafka-3:9092",)))),
    ("broker-version", lambda picture: with_cluster(picture, versions={3: 9, 9: 7, 22: 4, 25: 3, 26: 3, 28: 3})),
    ("broker-version", lambda picture: with_cluster(picture, versions={3: 12, 9: 8})),
    (
        "coordinator-log",
        lambda picture: with_config(without_log(picture), transaction_state_log_replication_factor="4"),
    ),
    ("transaction-timeout", lambda picture: with_config(picture, transaction_max_timeout_ms="14999")),
    ("transaction-timeout", lambda picture: with_config(picture, transaction_max_timeout_ms="4000")),
    ("session-timeout", lambda picture: with_config(picture, group_min_session_timeout_ms="10001")),
    ("session-timeout", lambda picture: with_worker(picture, session_timeout_s=3)),
    ("topic-missing", lambda picture: without_topic(picture, TOPICS.audit)),
    ("output-partitions", lambda picture: with_topic(picture, TOPICS.metrics, partitions=3)),
    ("topic-timestamps", lambda picture: with_topic(picture, TOPICS.input, message_timestamp_type="CreateTime")),
    ("topic-cleanup", lambda picture: with_topic(picture, TOPICS.dead_letter, cleanup_policy="compact")),
    ("topic-compression", lambda picture: with_topic(picture, TOPICS.feedback, compression_type="producer")),
    ("output-size", lambda picture: with_topic(picture, TOPICS.results, max_message_bytes="1048588")),
    ("label-retention", lambda picture: with_topic(picture, TOPICS.results, retention_ms=SHORT)),
    ("label-retention", lambda picture: with_topic(picture, TOPICS.feedback, retention_bytes="1000000")),
    ("in-sync", lambda picture: with_topic(picture, TOPICS.input, min_insync_replicas="4")),
    ("in-sync", lambda picture: with_topic(picture, "__transaction_state", min_insync_replicas="4")),
    ("in-sync", lambda picture: with_config(without_log(picture), transaction_state_log_min_isr="4")),
    (
        "topic-replicas",
        lambda picture: with_topic(
            with_cluster(picture, replicas=dict.fromkeys(TOPICS.every, 3) | {TOPICS.input: 1}),
            TOPICS.input,
            min_insync_replicas="1",
        ),
    ),
    ("group-start", lambda picture: with_group(picture, offsets={})),
    ("group-start", beyond(FULL)),
    ("group-start", beyond(committed(END + 5))),
    ("group-empty", nobody_works),
    ("group-foreign", with_stranger("rdkafka")),
    ("group-foreign", with_stranger("billing", "orders")),
    ("instance-twice", with_members(worker_member(0), worker_member(0))),
    ("workers-idle", with_members(*(worker_member(number) for number in range(PARTITIONS + 1)))),
    ("records-deleted", deleted),
    ("two-groups", another_worker),
    ("read-uncommitted", lambda picture: with_another(picture, "billing", SPY)),
    ("timeouts", lambda picture: with_worker(picture, stall_timeout_s=15)),
    ("timeouts", lambda picture: with_worker(picture, commit_interval_s=60)),
    ("timeouts", with_horizon),
    ("model-directory", lambda picture: with_machine(picture, model_problem="cannot read model.onnx")),
    ("model-slots", lambda picture: with_machine(picture, cores=1)),
    ("model-slots", lambda picture: with_machine(with_worker(picture, model_slots=1), cores=0.5)),
    ("memory", lambda picture: with_machine(picture, memory_bytes=512 * 2**20)),
    ("open-files", lambda picture: with_machine(picture, open_files=210)),
    ("store-place", lambda picture: with_store(picture, is_writable=False)),
    ("store-place", lambda picture: with_store(picture, filesystem="nfs4")),
    ("store-place", lambda picture: with_store(picture, free_bytes=1000, size_bytes=0)),
    ("ports", lambda picture: with_worker(picture, http_port=8002)),
    ("ports", on_port("worker")),
    ("no-labels", lambda picture: with_labels(picture, judged=0, unknown_class=0, recent=0, matched=0)),
    ("labels-of-no-class", lambda picture: with_labels(picture, judged=100, unknown_class=99)),
    ("labels-unmatched", lambda picture: with_labels(picture, judged=3, unknown_class=0, matched=3)),
    ("labels-unmatched", lambda picture: with_labels(picture, old=100)),
    ("clock-skew", behind_s(-42.0)),
    ("clock-skew", lambda picture: with_cluster(picture, ahead_ms=60_000)),
    ("clock-skew", lambda picture: with_prometheus(picture, skew_s=3600.0)),
    ("models-differ", lambda picture: with_prometheus(picture, models=frozenset({"sha256:1", "sha256:2"}))),
    ("rules-missing", lambda picture: with_prometheus(picture, rule_groups=frozenset())),
    ("rules-missing", lambda picture: with_prometheus(picture, failing_rules={"streamgauge:x": "many-to-many"})),
    ("targets-missing", lambda picture: with_prometheus(picture, targets_up={WORKER_JOB: 1, LISTENER_JOB: 1})),
    ("targets-missing", lambda picture: with_prometheus(picture, targets_up={WORKER_JOB: 2}, listened=frozenset())),
    ("alertmanager-missing", lambda picture: with_prometheus(picture, alertmanagers=0)),
    ("shard-missing", lambda picture: with_prometheus(picture, listened=frozenset({(TOPICS.results, 0)}))),
]
"""What is found, and how the sound picture is broken; some in several ways."""


def names(picture: Picture) -> set[str]:
    return {finding.check for finding in examine(CHECKS, picture).findings}


@pytest.mark.parametrize(("name", "broken"), BREAKAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_breakage_is_found_and_no_other(name: str, broken: Change) -> None:
    """With what it is, why it matters, and what mends it."""
    report = examine(CHECKS, broken(sound()))
    assert [finding.check for finding in report.findings] == [name]
    [finding] = report.findings
    assert finding.what
    assert finding.why
    assert finding.mend


def test_every_check_is_broken_once() -> None:
    """There are forty."""
    assert {each.name for each in CHECKS} == {name for name, _broken in BREAKAGES}
    assert len(CHECKS) == len({each.name for each in CHECKS}) == 40


def as_it_is(picture: Picture) -> Picture:
    return picture


def one_broker(picture: Picture) -> Picture:
    """As the embedded one: one of everything."""
    assert isinstance(picture.cluster.topics, dict)
    alone = {name: topic for name, topic in picture.cluster.topics.items() if name not in LOGS}
    for name in alone:
        picture = with_topic(picture, name, min_insync_replicas="1")
    for log in LOGS:
        picture = with_topic(picture, log, min_insync_replicas="1")
    assert isinstance(picture.cluster.topics, dict)
    one = dict.fromkeys((f"transaction_state_log_{name}" for name in ("replication_factor", "min_isr")), "1")
    return with_cluster(with_config(picture, **one), brokers=1, replicas=dict.fromkeys(picture.cluster.topics, 1))


def never_used(picture: Picture) -> Picture:
    """After `topics create`: nobody works yet, and nothing waits."""
    made = with_group(without_log(picture), members=(), offsets=input_offsets(0))
    made = with_cluster(made, spans=dict.fromkeys(cluster().spans, Span(0, 0)))  # type: ignore[arg-type]
    return replace(made, answers=(), prometheus=Unseen("none"))


def larger(picture: Picture) -> Picture:
    """With more of what is a minimum, as users may have it."""
    more = with_topic(picture, TOPICS.results, retention_ms="-1", max_message_bytes="9000000")
    more = with_topic(more, TOPICS.metrics, partitions=9)
    return with_topic(more, TOPICS.input, retention_ms=str(90 * DAY_MS))


def two_shards(picture: Picture) -> Picture:
    """Each shows its own, and a copy shows the same again."""
    worker, listener = picture.answers
    return with_answers(sharded(picture, Shard(0, 2)), worker, listener, listener._replace(url="http://copy:8002"))


def made_anew(picture: Picture) -> Picture:
    """The input was deleted and made again: a worker reads it from its beginning."""
    return with_spans(beyond(committed(END + 5, "an earlier id"))(picture), TOPICS.input, Span(0, END))


def retired(picture: Picture) -> Picture:
    """The workers' group had another name once; its offsets are still there."""
    return with_another(picture, "old", Group("Empty", (), input_offsets(5)))


def rebalancing(picture: Picture) -> Picture:
    """Nobody tells what it reads, and a marker was deleted behind a committed offset."""
    members = (Member("host-0", None), Member("host-1", None))
    return with_group(picture, state="PreparingRebalance", members=members, offsets=input_offsets(RETAINED - 1))


def catching_up(picture: Picture) -> Picture:
    """A listener that is not ready shows no numbers."""
    worker, listener = picture.answers
    return with_answers(picture, worker, listener._replace(samples=listener_samples()[1:]))


def quiet(picture: Picture) -> Picture:
    """A few texts and a few labels say nothing yet."""
    return with_labels(picture, predictions=99, judged=0, unknown_class=3, recent=19, matched=0)


def audited_elsewhere(picture: Picture) -> Picture:
    """An application reads results to their committed end; one reads the input; one has a topic of its own."""
    reads = Group("Stable", (Member("rdkafka", frozenset({TOPICS.results})),), {OUTPUT: committed(END)})
    copies = Group("Stable", (Member("copy", frozenset({TOPICS.input})),), {})
    other = Group("Stable", (), {TopicPartition("orders", 0): OffsetAndMetadata(10**9, "")})
    return with_another(with_another(with_another(picture, "billing", reads), "copy", copies), "orders", other)


SOUND: list[Change] = [
    as_it_is,
    one_broker,
    never_used,
    lambda picture: never_used(one_broker(picture)),
    larger,
    two_shards,
    made_anew,
    retired,
    rebalancing,
    catching_up,
    quiet,
    audited_elsewhere,
    lambda picture: replace(picture, prometheus=Unseen("none")),
    lambda picture: replace(picture, answers=()),
    lambda picture: replace(picture, cluster=Cluster.unseen("no rights")),
    lambda picture: with_cluster(picture, config=Unseen("no right"), groups=Unseen("no right")),
    lambda picture: with_worker(picture, profile="latency", start_from="latest", session_timeout_s=6),
    lambda picture: with_worker(picture, model_slots=1, http_port=0, stall_timeout_s=16),
    with_members(*(worker_member(number) for number in range(PARTITIONS))),
    behind_s(9.0),
    lambda picture: with_machine(picture, open_files=Unseen("no limit"), cores=2.0),
]
"""Set-ups that differ, and are well. Real ones: `test_real_pictures.py`."""


@pytest.mark.parametrize("change", SOUND)
def test_nothing_is_found_in_a_sound_set_up(change: Change) -> None:
    """Twenty and more of them."""
    assert names(change(sound())) == set()
    assert len(SOUND) >= 20


def test_what_cannot_be_seen_is_said_and_is_no_finding() -> None:
    """Each check is found, well, or not made with a reason."""
    blind = replace(
        sound(),
        cluster=Cluster.unseen("no rights"),
        answers=(),
        prometheus=Unseen("no Prometheus was named"),
    )
    report = examine(CHECKS, blind)
    assert report.findings == ()
    reasons = dict(report.not_made)
    assert reasons["in-sync"] == "no rights"
    assert reasons["no-labels"] == "no listener answers"
    assert reasons["rules-missing"] == "no Prometheus was named"
    lines = list(as_text(report))
    assert lines[-1] == f"40 checks: 0 found something, {40 - len(reasons)} found nothing, {len(reasons)} not made"


def test_what_was_found_counts_though_the_rest_could_not_be_seen() -> None:
    """A store on a network is one, whatever is in the topics."""
    blind = replace(with_store(sound(), filesystem="nfs4"), cluster=Cluster.unseen("no rights"))
    assert names(blind) == {"store-place"}


def test_a_shard_knows_only_its_own_labels() -> None:
    """Where not all listeners are asked, nobody can say that labels have no prediction."""
    worker, listener = sound().answers
    assert listener.samples
    part = tuple(each for each in listener.samples if each.labels.get("partition") != "3")
    report = examine(CHECKS, with_answers(sound(), worker, listener._replace(samples=part)))
    assert [name for name, _because in report.not_made] == ["labels-unmatched"]


def test_models_are_compared_without_prometheus_too() -> None:
    """By what the workers show that are named."""
    first, second = (Answer("worker", f"http://{name}:8001", worker_samples(name)) for name in ("a", "b"))
    assert names(replace(with_answers(sound(), first, second), prometheus=Unseen("none"))) == {"models-differ"}


def test_names_from_outside_steer_no_terminal() -> None:
    """A client may call itself anything."""
    lines = list(as_text(examine(CHECKS, with_stranger("\x1b[2Jx", "orders")(sound()))))
    assert "\\x1b[2Jx" in lines[0]


def test_constants_are_those_of_the_files_they_are_from() -> None:
    """The groups of the rules, and what sizing has measured."""
    files = (ROOT / "dashboards" / "rules").glob("*.yml")
    assert {group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]} == RULE_GROUPS
    assert f"| `store_bytes` | {STORED_PREDICTION_BYTES} |" in (ROOT / "infra" / "sizing.md").read_text()


def test_the_page_is_what_the_command_lists() -> None:
    """`streamgauge doctor --list > infra/doctor.md`; each check names an address."""
    assert (ROOT / "infra" / "doctor.md").read_text() == "\n".join(as_page(CHECKS)) + "\n"
    assert all(re.fullmatch(r"https://[^\s]+", each.source) for each in CHECKS)


def test_a_check_is_described_by_its_docstring() -> None:
    """In one line."""
    each: Check
    for each in CHECKS:
        assert each.looks_for.endswith(".")
        assert len(each.looks_for) < 120
