"""The pipeline on fakes: a source that is a list, a model that is a function."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from tests.echo import EchoModel
from tests.records import FakeRecord
from worker.metrics import Metrics
from worker.outcomes import InputRecord
from worker.pipeline import Pipeline
from worker.settings import WorkerSettings
from worker.tenure import Credit, Tenure


@dataclass
class Bench:
    """A pipeline with one tenure."""

    model: EchoModel = field(default_factory=EchoModel)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        settings = WorkerSettings(max_batch_tokens=64, model_slots=2)
        self.metrics = Metrics(self.registry, self.model.ref, self.model.labels)
        self.pipeline = Pipeline(self.model, settings, self.metrics)
        self.credit = Credit(1000, 1_000_000)
        self.tenure = Tenure(TopicPartition("sentiment.input", 0), self.credit, 0)

    async def source(self, values: Sequence[bytes | None]) -> AsyncIterator[list[tuple[Tenure, list[InputRecord]]]]:
        """Polls of ten records each, then the end."""
        for start in range(0, len(values), 10):
            records: list[InputRecord] = [
                FakeRecord(value, offset=start + number) for number, value in enumerate(values[start : start + 10])
            ]
            yield [(self.tenure, records)]


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    return Bench
