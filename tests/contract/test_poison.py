"""Records that a model cannot bear, workers that would write nothing but dead letters, and the way back."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import Reason, decode_prediction, last_header
from tests.cluster import Kafka, Stream
from tests.contract.test_worker import running
from tests.echo import EchoModel, echo_probability
from tests.oracle import Input, generate, judge
from worker.model.scorer import InferenceError, Probabilities, TokenIds
from worker.replay import replay
from worker.service import Worker
from worker.settings import WorkerSettings
from worker.skip import skip

POISON = "p " * 12


class PoisonedModel(EchoModel):
    """Fails on every batch that holds a text of exactly twelve words."""

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        if any(len(ids) == 13 for ids in batch):
            raise InferenceError from ValueError("poison")
        return super().score(batch)


async def replayed(stream: Stream, *reasons: Reason, dry_run: bool = False) -> dict[Reason, int]:
    return {
        reason: count
        async for reason, count in replay(stream.kafka, stream.topics, stream.group, reasons, dry_run=dry_run)
    }


async def test_poison_is_isolated_and_replayed_once(kafka: Kafka) -> None:
    """Only the poisonous texts become dead letters; with a better model they are scored, once, under their first id."""
    stream = await Stream.create(kafka.bootstrap_servers)
    good = [Input(f"good {number}".encode(), echo_probability(f"good {number}")) for number in range(200)]
    poison = [Input(f"{POISON}".encode(), Reason.INFERENCE_FAILED)] * 4
    inputs = await stream.publish([*good[:100], *poison, *good[100:]])
    async with running(stream, model=PoisonedModel()):
        outputs = await stream.read(at_least=204)
    assert judge(inputs, outputs).is_clean
    first_ids = {f"{stream.topics.input}-{p}-{o}" for (p, o), item in inputs.items() if item in poison}

    assert await replayed(stream, Reason.INFERENCE_FAILED, dry_run=True) == {Reason.INFERENCE_FAILED: 4}
    assert await replayed(stream, Reason.NOT_UTF8, Reason.INFERENCE_FAILED) == {
        Reason.NOT_UTF8: 0,
        Reason.INFERENCE_FAILED: 4,
    }
    assert await replayed(stream, Reason.INFERENCE_FAILED) == {Reason.INFERENCE_FAILED: 0}
    async with running(stream):
        results = await stream.read([stream.topics.results], at_least=204)
    again = [decode_prediction(record.value) for record in results]
    assert {prediction.id for prediction in again if prediction.tokens == 13} == first_ids
    assert len(again) == 204


async def test_bad_input_never_stops_a_worker(kafka: Kafka) -> None:
    """Thousands of records of which none holds a text pass, and the text behind them is scored."""
    stream = await Stream.create(kafka.bootstrap_servers)
    good = Input(b"good", echo_probability("good"))
    inputs = await stream.publish([*[Input(b"\xff", Reason.NOT_UTF8)] * 3000, good, good])
    async with running(stream, brake_records=2, commit_records=50) as registry:
        outputs = await stream.read(at_least=len(inputs))
    assert judge(inputs, outputs).is_clean
    assert registry.get_sample_value("streamgauge_dead_letters_total", {"reason": "not_utf8"}) == 3000


async def test_the_brake_stops_a_worker_whose_model_fails(kafka: Kafka) -> None:
    """Too many failures end the process and name the setting, whatever bad input is among them; what was committed is
    right.
    """
    stream = await Stream.create(kafka.bootstrap_servers)
    bad, poison = Input(b"\xff", Reason.NOT_UTF8), Input(POISON.encode(), Reason.INFERENCE_FAILED)
    inputs = await stream.publish([bad, bad, bad, bad, poison, poison] * 100)
    settings = WorkerSettings(group=stream.group, brake_records=50, commit_records=20, max_records=200)
    worker = Worker(stream.kafka, stream.topics, settings, CollectorRegistry(), PoisonedModel())
    with pytest.raises(ExceptionGroup) as caught:
        await worker.run(asyncio.Event())
    assert caught.group_contains(StreamgaugeError, match="failed on 100% .*_MAX_FAILED_SHARE=0.5")
    letters = await stream.read()
    assert 50 <= len(letters) < len(inputs)
    assert judge({(r.partition, r.offset): inputs[r.partition, r.offset] for r in letters}, letters).is_clean


async def test_a_skipped_record_becomes_a_dead_letter(kafka: Kafka) -> None:
    """A record marked with `skip` is not scored, whoever owns the partition; all others are, in order."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(600, seed=21))
    async with running(stream, max_records=10):
        await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:555")
        await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:577")
    async with running(stream):
        outputs = await stream.read(at_least=600)
    skipped = {(0, 555): Input(b"", Reason.SKIPPED), (0, 577): Input(b"", Reason.SKIPPED)}
    assert judge(inputs | skipped, outputs).is_clean
    reasons = [last_header(record.headers, "__connect.errors.exception.class.name") for record in outputs]
    assert reasons.count(b"skipped") == 2
    with pytest.raises(ConfigurationError, match=r"is past .*:0:555 already: it is at 600"):
        await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:555")
