"""Input records for tests."""

from dataclasses import dataclass, field

from worker.outcomes import Headers


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
