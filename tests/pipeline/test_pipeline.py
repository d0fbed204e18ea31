"""The stages together: everything that enters leaves once, in order, whatever the model does."""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from streamgauge.errors import StreamgaugeError
from streamgauge.events import ModelRef, Reason, decode_measurement, decode_prediction
from streamgauge.settings import TopicSettings
from tests.echo import EchoModel, echo_probability
from tests.pipeline.conftest import Bench
from tests.records import FakeRecord
from worker.commit_policy import Terms
from worker.metrics import Metrics
from worker.model.scorer import InferenceError, Probabilities, TokenIds
from worker.outcomes import Accepted, Outcome, Refused, Scored
from worker.output import Origin, OutputRecord
from worker.pipeline import Pipeline, chunks
from worker.publish import Publisher
from worker.settings import WorkerSettings
from worker.transaction import OffsetAfter

MakeBench = Callable[..., Bench]
AT_ONCE = Terms(enough=1, not_before_s=0, at_latest_s=0)
NEVER = Terms(enough=1000, not_before_s=math.inf, at_latest_s=math.inf)
"""Terms on which only the loss of the partition starts a transaction."""


async def run_all(bench: Bench, values: Sequence[bytes | None]) -> list[Outcome]:
    """Feed all values, let the stream end, and take what the tenure hands out."""
    async with asyncio.TaskGroup() as stages:
        stages.create_task(bench.pipeline.intake(bench.source(values)))
        for _ in range(2):
            stages.create_task(bench.pipeline.infer())
    return await bench.tenure.next_outcomes(AT_ONCE)


async def test_the_end_of_the_source_drains_every_stage(make_bench: MakeBench) -> None:
    """Texts and refusals leave in offset order, each with its own text's answer."""
    values = [b"" if number % 7 == 0 else f"text {number} {'x ' * (number % 5)}".encode() for number in range(100)]
    outcomes = await run_all(make_bench(), values)
    assert [outcome.record.offset for outcome in outcomes] == list(range(100))
    for value, outcome in zip(values, outcomes, strict=True):
        if isinstance(outcome, Scored):
            assert outcome.probabilities[1] == pytest.approx(echo_probability(value.decode()))
        else:
            assert isinstance(outcome, Refused)
            assert (value, outcome.reason) == (b"", Reason.EMPTY_TEXT)


class PoisonedModel(EchoModel):
    """Fails on every batch that holds a text of exactly 13 words."""

    broken = False

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        if any(len(ids) == 14 for ids in batch):
            raise InferenceError from ValueError("poison")
        return super().score(batch)

    def verify(self) -> None:
        if self.broken:
            raise StreamgaugeError("model echo@1 fails its known-answer texts")


async def test_a_poisonous_text_fails_alone(make_bench: MakeBench) -> None:
    """Only the text that the model cannot bear becomes a dead letter; its batch-mates get their results."""
    values = [b" ".join([b"w"] * count) for count in (12, 13, 12, 13, 14)]
    outcomes = await run_all(make_bench(PoisonedModel()), values)
    assert [isinstance(outcome, Scored) for outcome in outcomes] == [True, False, True, False, True]
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Refused)} == {Reason.INFERENCE_FAILED}


async def test_failed_batches_are_counted(make_bench: MakeBench) -> None:
    """Each halving of a failing batch is a failure of its own; the time of what was scored counts as busy."""
    bench = make_bench(PoisonedModel())
    await run_all(bench, [b" ".join([b"w"] * count) for count in (12, 13, 12, 13)])
    read = bench.registry.get_sample_value
    assert read("streamgauge_model_slots") == 2
    assert (read("streamgauge_failed_batches_total") or 0) >= 2
    assert (read("streamgauge_model_busy_seconds_total") or 0) > 0


async def test_a_broken_model_ends_the_process(make_bench: MakeBench) -> None:
    """When the known-answer texts fail as well, it is not the text: nothing is refused, everything stops."""
    bench = make_bench(PoisonedModel())
    bench.model.broken = True  # type: ignore[attr-defined]
    with pytest.raises(ExceptionGroup) as caught:
        await run_all(bench, [b" ".join([b"w"] * 13)])
    assert caught.group_contains(StreamgaugeError, match="known-answer")


class HeldModel(EchoModel):
    """Scores nothing until released, and says when it has begun."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        self.entered.set()
        self.released.wait()
        return super().score(batch)


async def test_a_revoke_leaves_what_is_not_in_the_model(make_bench: MakeBench) -> None:
    """Retired in the middle of a batch, a tenure hands out that batch and nothing behind it."""
    bench = make_bench(model := HeldModel())
    texts = [b"w " * 40 for _ in range(50)]
    async with asyncio.TaskGroup() as stages:
        stages.create_task(bench.pipeline.intake(bench.source(texts)))
        stages.create_task(bench.pipeline.infer())
        await asyncio.to_thread(model.entered.wait)
        bench.tenure.retire()
        bench.pipeline.discard_unwanted()
        handed_out = stages.create_task(bench.tenure.next_outcomes(NEVER))
        model.released.set()
    assert [outcome.record.offset for outcome in handed_out.result()] == [0]
    assert await bench.tenure.next_outcomes(NEVER) == []
    bench.tenure.close()
    assert (bench.credit.records, bench.credit.bytes) == (0, 0)


async def test_padding_and_tokens_are_counted(make_bench: MakeBench) -> None:
    """Tokens computed are the longest text times the batch, shared among its texts."""
    bench = make_bench()
    outcomes = await run_all(bench, [b"a b c", b"a"])
    value = bench.registry.get_sample_value
    assert value("streamgauge_tokens_total") == 6
    assert value("streamgauge_padded_tokens_total") == sum(o.padded_tokens for o in outcomes if isinstance(o, Scored))


def test_chunks_are_bounded_in_texts_and_characters(make_bench: MakeBench) -> None:
    """Whatever the texts' sizes, a tokenizer's work is bounded; nothing is lost, and order holds."""
    tenure = make_bench().tenure
    texts = ["x"] * 300 + ["y" * 100_000] * 3 + ["z" * 200_000]
    cut = list(chunks([(tenure, Accepted(FakeRecord(), "", text, None)) for text in texts]))
    assert [accepted.text for chunk in cut for _tenure, accepted in chunk] == texts
    assert [len(chunk) for chunk in cut] == [256, 45, 1, 1, 1]


class MemoryWriter:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[OutputRecord] = []

    async def commit(self, records: Sequence[OutputRecord], offset_after: OffsetAfter) -> None:
        assert offset_after({}).offset > 0
        self.records.extend(records)


async def test_what_is_committed_is_counted(make_bench: MakeBench) -> None:
    """Each stage has one observation a committed text, and the stages add up to the whole."""
    bench = make_bench()
    async with asyncio.TaskGroup() as stages:
        stages.create_task(bench.pipeline.intake(bench.source([b"a fine film"] * 30 + [b""])))
        stages.create_task(bench.pipeline.infer())
    publisher = Publisher(
        WorkerSettings(audit_share=0), TopicSettings(), Origin("g", "w"), bench.metrics, bench.pipeline.in_use, 2**20
    )
    await publisher.publish(bench.tenure, MemoryWriter(), bench.tenure.retire)
    read = bench.registry.get_sample_value
    for stage in ("tokenize", "queue", "infer", "wait"):
        assert read("streamgauge_stage_seconds_count", {"stage": stage}) == 30
    spent_s = [read("streamgauge_stage_seconds_sum", {"stage": stage}) or 0 for stage in ("tokenize", "queue", "infer")]
    assert read("ml_model_latency_seconds_sum", {"model": "echo@1"}) == pytest.approx(sum(spent_s))
    assert read("ml_model_confidence_scores_count", {"model": "echo@1"}) == 30
    assert read("streamgauge_end_to_end_latency_seconds_count") == 31
    assert read("streamgauge_dead_letters_total", {"reason": "empty_text"}) == 1
    labels = [read("ml_model_requests_total", {"model": "echo@1", "label": label}) or 0 for label in bench.model.labels]
    assert sum(labels) == 30


class Turned(EchoModel):
    """Another model, with other labels."""

    ref = ModelRef(name="turned", version="2", digest="sha256:turned")
    labels = ("good", "bad")


async def test_outcomes_of_two_models_keep_their_own(make_bench: MakeBench) -> None:
    """One transaction, two models: results, metric event and counters each name who scored."""
    bench = make_bench()
    other = Pipeline(Turned(), WorkerSettings(model_slots=1), Metrics(CollectorRegistry()))
    for pipeline, start in ((bench.pipeline, 0), (other, 20)):
        async with asyncio.TaskGroup() as stages:
            stages.create_task(pipeline.intake(bench.source([b"a fine film"] * 20, start)))
            stages.create_task(pipeline.infer())
    read, models = bench.registry.get_sample_value, ("echo@1", "turned@2")
    assert read("ml_model_requests_total", {"model": "echo@1", "label": "NEGATIVE"}) == 0
    writer = MemoryWriter()
    publisher = Publisher(
        WorkerSettings(audit_share=0), TopicSettings(), Origin("g", "w"), bench.metrics, bench.pipeline.in_use, 2**20
    )
    await publisher.publish(bench.tenure, writer, bench.tenure.retire)
    *results, measured = writer.records
    predictions = [decode_prediction(record.value or b"") for record in results]
    assert [(one.source.offset, one.model.key) for one in predictions] == [(n, models[n >= 20]) for n in range(40)]
    assert {tuple(one.scores) for one in predictions} == {EchoModel.labels, Turned.labels}
    event = decode_measurement(measured.value or b"")
    assert [(part.model.key, part.records) for part in event.models] == [(model, 20) for model in models]
    for model, labels in zip(models, (EchoModel.labels, Turned.labels), strict=True):
        assert sum(read("ml_model_requests_total", {"model": model, "label": label}) or 0 for label in labels) == 20
        assert read("ml_model_confidence_scores_count", {"model": model}) == 20
    in_use = {"model": "echo@1", "name": "echo", "version": "1", "digest": "sha256:echo"}
    assert read("streamgauge_model_info", in_use) == 1
