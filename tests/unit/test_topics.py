"""What must be done to topics, and on which topics worker and listener refuse to start."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.errors import StreamgaugeError
from streamgauge.provisioning import describe
from streamgauge.settings import DAY_MS, TopicSettings
from streamgauge.topics import Topic, desired, listener_violations, other_replicas, plan, worker_violations

SETTINGS = TopicSettings()
WANTED = {topic.name: topic for topic in desired(SETTINGS, 4, 3, {})}
AMOUNTS = st.sampled_from(["-1", "0", "1", str(DAY_MS), str(8 * DAY_MS), str(2**63 - 1)])
CONFIGURED = st.fixed_dictionaries(
    {
        "cleanup.policy": st.sampled_from(["delete", "compact", "compact,delete"]),
        "compression.type": st.sampled_from(["uncompressed", "producer", "gzip"]),
        "max.message.bytes": st.sampled_from(["0", "1048588", "9000000"]),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
        "min.insync.replicas": st.sampled_from(["1", "2", "3"]),
        "retention.bytes": AMOUNTS,
        "retention.ms": AMOUNTS,
    }
)
"""The settings of a topic that exists, as users may have left them."""


def changed(name: str, **other: object) -> dict[str, Topic]:
    return WANTED | {name: replace(WANTED[name], **other)}  # type: ignore[arg-type]


def with_config(name: str, **config: str) -> dict[str, Topic]:
    overrides = {key.replace("_", "."): value for key, value in config.items()}
    return changed(name, config={**WANTED[name].config, **overrides})


def amount(setting: str) -> float:
    return float("inf") if setting == "-1" else float(setting)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Topic]:
    """Topics as users may have left them; some do not exist."""
    names = draw(st.sets(st.sampled_from(SETTINGS.every)))
    return {name: Topic(name, draw(st.integers(1, 9)), draw(CONFIGURED)) for name in names}


def made_right(existing: dict[str, Topic], partitions: int) -> dict[str, Topic]:
    """The topics after every planned change."""
    after = dict(existing)
    for change in plan(desired(SETTINGS, partitions, 3, existing), existing):
        before = after.get(change.topic, Topic(change.topic, 0, {}))
        config = {**before.config, **(change.config or {})}
        after[change.topic] = Topic(change.topic, change.partitions or before.partitions, config)
    return after


@given(clusters(), st.integers(1, 9))
def test_topics_create_mends_whatever_worker_and_listener_refuse(existing: dict[str, Topic], partitions: int) -> None:
    """However the topics were left, after it nothing is refused and nothing is left to do."""
    after = made_right(existing, partitions)
    assert [*worker_violations(SETTINGS, after), *listener_violations(SETTINGS, after)] == []
    assert plan(desired(SETTINGS, partitions, 3, after), after) == []


@given(clusters(), st.integers(1, 9))
def test_topics_create_takes_nothing_away(existing: dict[str, Topic], partitions: int) -> None:
    """No retention is shortened, no limit lowered, no partition removed, whatever users have set; -1 is no limit."""
    after = made_right(existing, partitions)
    for name, before in existing.items():
        assert after[name].partitions >= before.partitions
        for key in ("retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"):
            assert amount(after[name].config[key]) >= amount(before.config[key])


def test_no_topic_needs_more_replicas_than_it_has() -> None:
    """A factor that is given later changes none; a topic that needed two of one could not be written to."""
    present = {name: replace(topic, replicas=1) for name, topic in WANTED.items()}
    assert not any("min.insync.replicas" in topic.config for topic in desired(SETTINGS, 4, 3, present))
    assert "changes nothing of 6 topics that exist: sentiment.audit has 1" in (other_replicas(3, present) or "")
    assert other_replicas(1, present) is None
    assert other_replicas(None, present) is None


def test_topics_are_created_once() -> None:
    """All topics are missing at first; once they are there, there is nothing to do."""
    wanted = list(WANTED.values())
    assert [change.topic for change in plan(wanted, {})] == list(WANTED)
    assert plan(wanted, WANTED) == []


def test_a_plan_repairs_only_what_is_wrong() -> None:
    """Partitions are added, configuration is changed where a guarantee needs it, and all else that is set stays."""
    [change] = plan(list(WANTED.values()), changed(SETTINGS.input, partitions=2))
    assert (change.topic, change.partitions, change.config, change.new) == (SETTINGS.input, 4, None, False)
    assert plan(list(WANTED.values()), changed(SETTINGS.input, partitions=9)) == []
    [change] = plan(list(WANTED.values()), with_config(SETTINGS.input, compression_type="producer"))
    assert change.config == {"compression.type": "uncompressed"}
    assert plan(list(WANTED.values()), with_config(SETTINGS.input, segment_bytes="1")) == []
    assert plan(list(WANTED.values()), with_config(SETTINGS.input, retention_ms=str(90 * DAY_MS))) == []
    assert plan(list(WANTED.values()), with_config(SETTINGS.results, max_message_bytes="9000000")) == []


def test_the_worker_refuses_what_breaks_a_guarantee() -> None:
    """Each violation is named with its topic; more than is needed is none."""
    too_small = {"max_message_bytes": str(SETTINGS.max_message_bytes)}
    for existing, problem in [
        ({}, "sentiment.input does not exist"),
        ({key: topic for key, topic in WANTED.items() if key != SETTINGS.metrics}, "sentiment.metrics does not exist"),
        (with_config(SETTINGS.input, compression_type="gzip"), "sentiment.input: compression.type is gzip"),
        (with_config(SETTINGS.input, cleanup_policy="compact"), "sentiment.input: cleanup.policy is compact"),
        (with_config(SETTINGS.dead_letter, **too_small), "sentiment.dead-letter: max.message.bytes is 1048588, but"),
        (changed(SETTINGS.results, partitions=3), "sentiment.results: 3 partitions"),
        ({key: topic for key, topic in WANTED.items() if key != SETTINGS.audit}, "sentiment.audit does not exist"),
        *(
            (with_config(name, message_timestamp_type="CreateTime"), f"{name}: message.timestamp.type is CreateTime")
            for name in (SETTINGS.input, *SETTINGS.outputs)
        ),
    ]:
        [found] = worker_violations(SETTINGS, existing)
        assert problem in found.text
    assert list(worker_violations(SETTINGS, with_config(SETTINGS.results, max_message_bytes="9000000"))) == []


def test_the_listener_refuses_topics_that_would_falsify_the_numbers() -> None:
    """Producers' clocks must not expire or revive anything, and the window must not outlast the records."""
    for existing, problem in [
        ({key: topic for key, topic in WANTED.items() if key != SETTINGS.audit}, "sentiment.audit does not exist"),
        (with_config(SETTINGS.audit, retention_ms=str(7 * DAY_MS)), f"must be at least {8 * DAY_MS}"),
        (with_config(SETTINGS.feedback, message_timestamp_type="CreateTime"), "must be LogAppendTime"),
        (with_config(SETTINGS.feedback, retention_ms=str(8 * DAY_MS - 1)), f"must be at least {8 * DAY_MS}"),
        (with_config(SETTINGS.results, retention_bytes="1"), "retention.bytes is 1, but must be -1"),
        (with_config(SETTINGS.feedback, compression_type="producer"), "compression.type is producer, but must be unc"),
    ]:
        [found] = listener_violations(SETTINGS, existing)
        assert problem in found.text
    assert list(listener_violations(SETTINGS, with_config(SETTINGS.feedback, retention_ms="-1"))) == []


def test_labels_outlive_the_join_window() -> None:
    """What is joined is kept a day longer than the join needs, whatever its size, in the broker's time."""
    for name in SETTINGS.joined:
        config = WANTED[name].config
        assert int(config["retention.ms"]) == 8 * 86_400_000
        assert (config["retention.bytes"], config["message.timestamp.type"]) == ("-1", "LogAppendTime")


class TornCluster:
    """One broker tells of a topic, the next one answers with an error when it is asked for the configuration."""

    def __init__(self, error_code: int) -> None:
        self._error_code = error_code

    async def list_topics(self) -> list[str]:
        return ["old", "new"]

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"topic": name, "partitions": [{"replicas": [1, 2]}], "error_code": 0} for name in names]

    async def describe_configs(self, _resources: object) -> list[Any]:
        resources = [(0, None, 2, "old", [("retention.ms", "1", False, 1)]), (self._error_code, None, 2, "new", [])]
        return [SimpleNamespace(resources=resources)]


async def test_a_topic_that_not_all_brokers_know_yet_does_not_exist() -> None:
    """While it is being made or deleted; any other error is one."""
    unknown, unauthorized = 3, 29
    existing: Any = await describe(TornCluster(unknown), ["old", "new"])
    assert existing == {"old": Topic("old", 1, {"retention.ms": "1"}, replicas=2)}
    with pytest.raises(StreamgaugeError, match="topic new"):
        await describe(TornCluster(unauthorized), ["old", "new"])
