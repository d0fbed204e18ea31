"""On which topics the listener starts."""

import pytest

from feedback_listener.service import check_topics
from streamgauge.errors import ConfigurationError
from streamgauge.settings import TopicSettings
from streamgauge.topics import DAY_MS, Topic, desired

SETTINGS = TopicSettings()
NAMES = [SETTINGS.results, SETTINGS.feedback]
WINDOW_MS = 7 * DAY_MS


def existing(**config: str) -> dict[str, Topic]:
    topics = {topic.name: topic for topic in desired(SETTINGS, 2, 1)}
    feedback = topics[SETTINGS.feedback]
    return topics | {feedback.name: Topic(feedback.name, 2, {**feedback.config, **config})}


def test_topics_as_they_are_created_are_accepted() -> None:
    """What `topics create` makes is right, and records that are kept for ever are as well."""
    check_topics(NAMES, existing(), WINDOW_MS)
    check_topics(NAMES, existing(**{"retention.ms": "-1"}), WINDOW_MS)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"message.timestamp.type": "CreateTime"},
            r"sentiment\.feedback: message\.timestamp\.type must be LogAppendTime",
        ),
        ({"retention.ms": str(WINDOW_MS - 1)}, r"sentiment\.feedback: retention\.ms must be at least the join window"),
    ],
)
def test_topics_that_would_falsify_the_numbers_are_refused(config: dict[str, str], complaint: str) -> None:
    """Producers' clocks must not expire or revive anything, and the window must not outlast the records."""
    with pytest.raises(ConfigurationError, match=complaint):
        check_topics(NAMES, existing(**config), WINDOW_MS)
