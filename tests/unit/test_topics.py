"""What must be done to topics, and what a worker refuses to start on."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from streamgauge.errors import StreamgaugeError
from streamgauge.settings import TopicSettings
from streamgauge.topics import Topic, describe, desired, plan, violations

SETTINGS = TopicSettings()
WANTED = {topic.name: topic for topic in desired(SETTINGS, partitions=4, replication_factor=3)}


def changed(name: str, **other: object) -> dict[str, Topic]:
    return WANTED | {name: replace(WANTED[name], **other)}  # type: ignore[arg-type]


def with_config(name: str, **config: str) -> dict[str, Topic]:
    overrides = {key.replace("_", "."): value for key, value in config.items()}
    return changed(name, config={**WANTED[name].config, **overrides})


def test_topics_are_created_once() -> None:
    """All topics are missing at first; once they are there, there is nothing to do."""
    wanted = list(WANTED.values())
    assert [change.topic for change in plan(wanted, {})] == list(WANTED)
    assert plan(wanted, WANTED) == []


def test_a_plan_repairs_only_what_is_wrong() -> None:
    """Partitions are added, never removed; configuration is changed where it differs, and what else is set stays."""
    [change] = plan(list(WANTED.values()), changed(SETTINGS.input, partitions=2))
    assert (change.topic, change.partitions, change.config, change.new) == (SETTINGS.input, 4, None, False)
    assert plan(list(WANTED.values()), changed(SETTINGS.input, partitions=9)) == []
    [change] = plan(list(WANTED.values()), with_config(SETTINGS.input, compression_type="producer"))
    assert change.config == {"compression.type": "uncompressed"}
    assert plan(list(WANTED.values()), with_config(SETTINGS.input, segment_bytes="1")) == []


def test_the_worker_starts_on_what_was_created() -> None:
    """What `topics create` makes has no violation."""
    assert list(violations(SETTINGS, WANTED)) == []


def test_the_worker_refuses_what_breaks_a_guarantee() -> None:
    """Each violation is named with its topic."""
    too_small = {"max_message_bytes": str(SETTINGS.max_message_bytes)}
    for existing, problem in [
        ({}, "sentiment.input does not exist"),
        ({key: topic for key, topic in WANTED.items() if key != SETTINGS.metrics}, "sentiment.metrics does not exist"),
        (with_config(SETTINGS.input, compression_type="gzip"), "sentiment.input: compression.type"),
        (with_config(SETTINGS.dead_letter, **too_small), "sentiment.dead-letter: max.message.bytes"),
        (changed(SETTINGS.results, partitions=3), "sentiment.results: 3 partitions"),
        (with_config(SETTINGS.results, message_timestamp_type="CreateTime"), "sentiment.results: message.timestamp"),
    ]:
        [found] = violations(SETTINGS, existing)
        assert problem in found


def test_labels_outlive_the_join_window() -> None:
    """Results and feedback are kept a day longer than the join needs, whatever their size, in the broker's time."""
    for name in (SETTINGS.results, SETTINGS.feedback):
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
        return [{"topic": name, "partitions": [{}], "error_code": 0} for name in names]

    async def describe_configs(self, _resources: object) -> list[Any]:
        resources = [(0, None, 2, "old", [("retention.ms", "1", False, 1)]), (self._error_code, None, 2, "new", [])]
        return [SimpleNamespace(resources=resources)]


async def test_a_topic_that_not_all_brokers_know_yet_does_not_exist() -> None:
    """While it is being made or deleted; any other error is one."""
    unknown, unauthorized = 3, 29
    existing: Any = await describe(TornCluster(unknown), ["old", "new"])
    assert existing == {"old": Topic("old", 1, {"retention.ms": "1"})}
    with pytest.raises(StreamgaugeError, match="topic new"):
        await describe(TornCluster(unauthorized), ["old", "new"])
