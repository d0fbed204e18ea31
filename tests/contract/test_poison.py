"""Records that a model cannot bear, workers that would write nothing but dead letters, and the way back."""

import asyncio
import sys
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from streamgauge.aiokafka_records import batch_bytes
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import Reason, decode_prediction, last_header
from tests.cluster import Kafka, Stream
from tests.contract.test_worker import running
from tests.echo import EchoModel, echo_probability
from tests.oracle import Input, generate, judge
from tests.records import FakeRecord
from worker.dead_letters import REPLAYED_HEADER, refusal_headers
from worker.model.scorer import InferenceError, Probabilities, TokenIds
from worker.outcomes import Refused
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
    done = replay(stream.kafka, stream.topics, WorkerSettings(group=stream.group), reasons, dry_run=dry_run)
    return {each.reason: each.records async for each in done}


async def run_replay(stream: Stream, *arguments: str) -> tuple[int, list[str]]:
    """The command as an operator types it: exit code, and what it prints."""
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamgauge", "replay", *arguments),
        env=stream.worker_environment,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await ran.communicate()
    return ran.returncode or 0, printed.decode().splitlines()


async def test_poison_is_isolated_and_replayed_once(kafka: Kafka) -> None:
    """Only the poisonous texts become dead letters; with a better model they are scored, once, under their first id."""
    stream = await Stream.create(kafka.bootstrap_servers)
    good = [Input(f"good {number}".encode(), echo_probability(f"good {number}")) for number in range(200)]
    poison = [Input(f"{POISON}".encode(), Reason.INFERENCE_FAILED)] * 4
    inputs = await stream.publish([*good[:100], *poison, *good[100:]])
    async with running(stream, model=PoisonedModel()):
        outputs = await stream.outputs(at_least=204)
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


async def test_a_dead_letter_that_cannot_go_back_is_named_and_those_behind_it_go(kafka: Kafka) -> None:
    """One fills what its topic takes to the last byte: no header fits beside it. What was passed is not tried again."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    limit = stream.topics.max_message_bytes
    overhead = batch_bytes(None, b" " * limit, []) - limit
    full, near = b"\xff" * (limit - overhead), b"\xff" * (limit - 400)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_request_size=2 * limit) as producer:
        for value in (full, near, b"\xff"):
            await producer.send_and_wait(stream.topics.input, value)
    async with running(stream):
        await stream.read(at_least=3)

    would = await run_replay(stream, "--reason", "not_utf8", "--dry-run")
    assert would[0] == 0
    assert would[1][0].startswith(f"would pass {stream.topics.dead_letter}:0:0: it takes ")
    assert would[1][1:] == ["would replay 2 dead letters: not_utf8; workers would refuse 2 of them again"]
    done = await run_replay(stream, "--reason", "not_utf8", "--anyway")
    assert (done[0], done[1][1:]) == (
        1,
        ["replayed 2 dead letters: not_utf8; workers would refuse 2 of them again"],
    )
    assert f"{stream.topics.input} takes {limit}. Publish it anew" in done[1][0]
    assert await run_replay(stream, "--reason", "not_utf8") == (0, ["replayed 0 dead letters: not_utf8"])
    back = (await stream.read([stream.topics.input]))[3:]
    assert [record.value for record in back] == [near, b"\xff"]


async def test_what_would_be_refused_again_is_counted_before(kafka: Kafka) -> None:
    """Nothing goes back until the operator says that it shall, or workers take what they refused."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in (b"longer than ten", b"a longer one", b"\xff"):
            await producer.send_and_wait(stream.topics.input, value)
    async with running(stream, max_text_bytes=10):
        await stream.read(at_least=3)

    both = ("--reason", "text_too_large", "--reason", "not_utf8")
    code, lines = await run_replay(stream, *both)
    assert (code, lines) == (2, [])
    code, lines = await run_replay(stream, *both, "--dry-run")
    assert (code, lines) == (
        0,
        [
            "would replay 2 dead letters: text_too_large",
            "would replay 1 dead letters: not_utf8; workers would refuse 1 of them again",
        ],
    )
    assert len(await stream.read([stream.topics.input])) == 3
    assert await run_replay(stream, *both[:2]) == (0, ["replayed 2 dead letters: text_too_large"])
    assert len(await stream.read([stream.topics.input])) == 5


async def test_what_is_refused_again_is_not_replayed_again(kafka: Kafka) -> None:
    """It goes back once, with its headers and its first position, and nothing of the refusal; then it is named."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(stream.topics.input, b"\xff", headers=[("shop", b"7")])
    async with running(stream):
        await stream.read(at_least=1)
        assert await replayed(stream, Reason.NOT_UTF8) == {Reason.NOT_UTF8: 1}
        await stream.read(at_least=2)
    _first, back = await stream.read([stream.topics.input])
    position = [f"__connect.errors.{part}" for part in ("topic", "partition", "offset")]
    assert [name for name, _value in back.headers] == ["shop", *position, REPLAYED_HEADER]
    assert back.value == b"\xff"
    exit_code, lines = await run_replay(stream, "--reason", "not_utf8")
    assert (exit_code, lines[-1]) == (1, "replayed 0 dead letters: not_utf8")
    assert "was replayed before, and refused again" in lines[0]
    assert len(await stream.read([stream.topics.input])) == 2


async def test_what_was_never_read_is_not_replayed_as_null(kafka: Kafka) -> None:
    """A dead letter of such a record holds no content: it is named with the position at which the record stands."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    letter = refusal_headers(
        Refused(FakeRecord(None, 7, topic=stream.topics.input), Reason.UNREADABLE, "a header"), stream.group, "worker"
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(stream.topics.dead_letter, b"", headers=letter)
    exit_code, lines = await run_replay(stream, "--reason", "unreadable")
    assert (exit_code, lines[-1]) == (1, "replayed 0 dead letters: unreadable")
    assert f"it is not the whole record, which still stands at {stream.topics.input}:0:7" in lines[0]
    assert await stream.read([stream.topics.input]) == []


async def test_dead_letters_that_come_during_a_replay_are_for_the_next_one(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be fetched with those that were there when it began; it passes none of them."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    refused = Refused(FakeRecord(topic=stream.topics.input), Reason.INFERENCE_FAILED, "no")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for _ in range(3):
            headers = refusal_headers(refused, stream.group, "worker")
            await producer.send_and_wait(stream.topics.dead_letter, b"text", headers=headers)

    async def ends(_consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 1)

    with monkeypatch.context() as began_earlier:
        began_earlier.setattr(AIOKafkaConsumer, "end_offsets", ends)
        assert await replayed(stream, Reason.INFERENCE_FAILED) == {Reason.INFERENCE_FAILED: 1}
    assert await replayed(stream, Reason.INFERENCE_FAILED) == {Reason.INFERENCE_FAILED: 2}


async def test_bad_input_never_stops_a_worker(kafka: Kafka) -> None:
    """Thousands of records of which none holds a text pass, and the text behind them is scored."""
    stream = await Stream.create(kafka.bootstrap_servers)
    good = Input(b"good", echo_probability("good"))
    inputs = await stream.publish([*[Input(b"\xff", Reason.NOT_UTF8)] * 3000, good, good])
    async with running(stream, brake_records=2, commit_records=50) as registry:
        outputs = await stream.outputs(at_least=len(inputs))
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
    sources = [(r.partition, int(last_header(r.headers, "__connect.errors.offset") or b"")) for r in letters]
    assert judge({source: inputs[source] for source in sources}, letters).is_clean


async def test_a_skipped_record_becomes_a_dead_letter(kafka: Kafka) -> None:
    """A record marked with `skip` is not scored, whoever owns the partition; all others are, in order."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(600, seed=21))
    async with running(stream, max_records=10):
        await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:555")
        assert await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:577") >= 0
    async with running(stream):
        outputs = await stream.outputs(at_least=600)
    skipped = {(0, 555): Input(b"", Reason.SKIPPED), (0, 577): Input(b"", Reason.SKIPPED)}
    assert judge(inputs | skipped, outputs).is_clean
    reasons = [last_header(record.headers, "__connect.errors.exception.class.name") for record in outputs]
    assert reasons.count(b"skipped") == 2
    for position, why in {"0:610": "ends before 600, and 10 records would have", "2:0": "no partition 2"}.items():
        with pytest.raises(ConfigurationError, match=why):
            await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:{position}")
    with pytest.raises(ConfigurationError, match=r"is past .*:0:555 already: it is at 600"):
        await skip(stream.kafka, stream.topics, stream.group, f"{stream.topics.input}:0:555")
