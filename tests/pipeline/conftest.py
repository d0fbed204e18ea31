"""The pipeline on fakes: a source that is a list, a model that is a function."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from tests.echo import EchoModel
from tests.records import NEW, FakeRecord
from worker.credit import Credit
from worker.load import ModelLoad
from worker.metrics import Metrics
from worker.outcomes import InputRecord
from worker.pipeline import Pipeline
from worker.settings import WorkerSettings
from worker.tenure import Tenure


@dataclass
class Bench:
    """A pipeline with one tenure."""

    model: EchoModel = field(default_factory=EchoModel)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        settings = WorkerSettings(max_batch_tokens=64, model_slots=2)
        self.metrics = Metrics(self.registry)
        self.pipeline = Pipeline(self.model, settings, self.metrics)
        self.credit = Credit(1000, 1_000_000)
        load = ModelLoad(settings.model_slots, on_calm=lambda: None)
        self.tenure = Tenure(TopicPartition("sentiment.input", 0), self.credit, load, 0, NEW)

    async def source(
        self, values: Sequence[bytes | None], first: int = 0
    ) -> AsyncIterator[list[tuple[Tenure, list[InputRecord]]]]:
        """Polls of ten records each, from offset `first` on, then the end."""
        for start in range(0, len(values), 10):
            records: list[InputRecord] = [
                FakeRecord(value, offset=first + start + number)
                for number, value in enumerate(values[start : start + 10])
            ]
            yield [(self.tenure, records)]


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    return Bench
