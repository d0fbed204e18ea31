"""Input records for tests."""

from dataclasses import dataclass, field

from worker.outcomes import Headers
from worker.progress import Progress

NEW = Progress(input_id="", first=0, next=0, outputs={})
"""Of a partition that nothing has been scored of."""


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """What the worker reads of a Kafka record."""

    value: bytes | None = b"a fine film"
    offset: int = 0
    key: bytes | None = None
    headers: Headers = field(default=())
    topic: str = "sentiment.input"
    partition: int = 0
    timestamp: int = 1_700_000_000_000
