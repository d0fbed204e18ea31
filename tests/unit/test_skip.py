"""Skips travel in the metadata of committed offsets."""

import pytest

from streamgauge.errors import ConfigurationError
from worker.skip import parse_position


@pytest.mark.parametrize("text", ["in:1", "in:1:x", "other:1:2", "1:2", ""])
def test_a_position_is_checked(text: str) -> None:
    """A position of another form or topic is refused with the right form."""
    with pytest.raises(ConfigurationError, match="in:PARTITION:OFFSET"):
        parse_position(text, "in")
    assert parse_position("in:1:2", "in")[1] == 2
