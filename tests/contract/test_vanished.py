"""What a group relies on vanishes, or grows: its offsets, the records ahead of it, the partitions."""

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String
from aiokafka.structs import TopicPartition
from structlog.testing import capture_logs

from streamgauge.kafka import admin_client
from streamgauge.provisioning import make_right
from tests.cluster import Kafka, Stream, until, worker_refusal
from tests.contract.test_worker import running
from tests.echo import EchoModel, echo_probability
from tests.faults.replica import Replica
from tests.faults.worker_process import AUDIT_SHARE
from tests.oracle import Input, generate, judge
from worker import service
from worker.model.scorer import Probabilities, TokenIds

NON_EMPTY_GROUP, GROUP_SUBSCRIBED_TO_TOPIC = 68, 86
"""Kafka's error codes."""


class OffsetDeleteResponse(Response):  # type: ignore[misc]
    """As Kafka's protocol guide has it; aiokafka lacks this request."""

    API_KEY = 47
    API_VERSION = 0
    SCHEMA = Schema(
        ("error_code", Int16),
        ("throttle_time_ms", Int32),
        ("topics", Array(("name", String()), ("partitions", Array(("partition", Int32), ("error_code", Int16))))),
    )


class OffsetDeleteStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 47
    API_VERSION = 0
    RESPONSE_TYPE = OffsetDeleteResponse
    SCHEMA = Schema(("group_id", String()), ("topics", Array(("name", String()), ("partitions", Array(Int32)))))


class OffsetDeleteRequest(Request[OffsetDeleteStruct]):  # type: ignore[misc]
    API_KEY = 47

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, kind: type[OffsetDeleteStruct]) -> OffsetDeleteStruct:
        return kind(*self._fields)


async def delete_group(admin: AIOKafkaAdminClient, stream: Stream) -> set[int]:
    """As `kafka-consumer-groups --delete`; returns the error codes."""
    coordinator = await admin.find_coordinator(stream.group)
    answer = await admin._send_request(DeleteGroupsRequest([stream.group]), coordinator)
    return {code for _group, code in answer.results}


async def delete_offsets(admin: AIOKafkaAdminClient, stream: Stream) -> set[int]:
    """As `kafka-consumer-groups --delete-offsets`; returns the error codes."""
    coordinator = await admin.find_coordinator(stream.group)
    topics = [(stream.topics.input, list(range(stream.partitions)))]
    answer = await admin._send_request(OffsetDeleteRequest(stream.group, topics), coordinator)
    return {answer.error_code, *(code for _topic, partitions in answer.topics for _number, code in partitions)}


Delete = Callable[[AIOKafkaAdminClient, Stream], Awaitable[set[int]]]
both_ways = pytest.mark.parametrize("delete", [delete_group, delete_offsets])
frozen = pytest.mark.skipif(sys.platform != "linux", reason="reads the state of processes from /proc")
SHORT_SESSION = {"session_timeout_s": 3, "commit_records": 50}


async def delete_empty_group(stream: Stream) -> None:
    """Delete the group as soon as its last member's session is over."""
    async with admin_client(stream.kafka) as admin:
        while await delete_group(admin, stream) != {0}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@both_ways
async def test_offsets_deleted_while_nobody_works_are_missed(kafka: Kafka, delete: Delete) -> None:
    """The worker neither rescores nor skips: it ends with code 2 and names the group, the partition and the choice."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(100, seed=21))
    async with running(stream):
        await stream.read(at_least=len(inputs))
    async with admin_client(stream.kafka) as admin:
        assert await delete(admin, stream) == {0}
    code, errors = await worker_refusal(stream)
    assert code == 2
    assert f"error: group {stream.group} has no committed offset for {stream.topics.input}-0" in errors
    assert "STREAMGAUGE_WORKER_START_FROM=earliest or latest" in errors
    assert judge(inputs, await stream.outputs()).is_clean


@both_ways
async def test_offsets_of_a_group_at_work_cannot_be_deleted(kafka: Kafka, delete: Delete) -> None:
    """Kafka refuses while the group has members, and the worker goes on undisturbed."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(100, seed=22))
    async with running(stream), admin_client(stream.kafka) as admin:
        await stream.all_committed(len(inputs))
        assert await delete(admin, stream) - {0} <= {NON_EMPTY_GROUP, GROUP_SUBSCRIBED_TO_TOPIC} != set()
        inputs |= await stream.publish(generate(100, seed=23))
        await stream.all_committed(len(inputs))
    assert judge(inputs, await stream.outputs()).is_clean


@frozen
async def test_a_worker_at_work_revives_a_group_deleted_under_it(kafka: Kafka, tmp_path: Path) -> None:
    """Frozen for longer than its session it was not fenced: it goes on from where it was and commits again."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(2000, seed=24))
    at_work = SHORT_SESSION | {"max_records": 500}  # so that there is something left to commit
    async with Replica(stream, "a", tmp_path, step="committed", nth=2, settings=at_work) as a:
        await a.frozen()
        await delete_empty_group(stream)
        a.send(signal.SIGCONT)
        await stream.all_committed(len(inputs))
        a.send(signal.SIGTERM)
        assert await a.ended() == 0
    assert judge(inputs, await stream.outputs(), AUDIT_SHARE).is_clean


@frozen
async def test_an_idle_worker_refuses_a_group_deleted_under_it(kafka: Kafka, tmp_path: Path) -> None:
    """Frozen for longer than its session and with nothing to commit, it finds no offset and ends, by name."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(generate(100, seed=25))
    async with Replica(stream, "a", tmp_path, settings=SHORT_SESSION) as a:
        await stream.all_committed(len(inputs))
        a.send(signal.SIGSTOP)
        await delete_empty_group(stream)
        a.send(signal.SIGCONT)
        assert await a.ended() != 0
        assert f"group {stream.group} has no committed offset" in a.log
    assert judge(inputs, await stream.outputs(), AUDIT_SHARE).is_clean


def large(count: int) -> list[Input]:
    """Texts of 10 kB, so that a worker has but a few of them at hand."""
    texts = [f"text {number} {'x' * 10_000}" for number in range(count)]
    return [Input(text.encode(), echo_probability(text)) for text in texts]


@pytest.mark.parametrize("log_start", [300, 400])
async def test_records_deleted_ahead_of_a_group_at_work(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, log_start: int
) -> None:
    """What the worker had not fetched is counted as lost and logged; it goes on with the first record that is left."""
    model_may_answer, score = threading.Event(), EchoModel.score

    def held_back(model: EchoModel, batch: Sequence[TokenIds]) -> Probabilities:
        model_may_answer.wait()
        return score(model, batch)

    monkeypatch.setattr(EchoModel, "score", held_back)
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    inputs = await stream.publish(large(400))
    with capture_logs() as logs:
        async with running(stream, max_records=10) as registry:
            await until(lambda: registry.get_sample_value("streamgauge_credit_records") == 10)
            async with admin_client(stream.kafka) as admin:
                tp = TopicPartition(stream.topics.input, 0)
                await admin.delete_records({tp: RecordsToDelete(before_offset=log_start)})
            inputs |= await stream.publish(large(50))
            model_may_answer.set()
            await stream.all_committed(len(inputs))
    lost = registry.get_sample_value("streamgauge_records_lost_total", {"partition": "0"})
    verdict = judge(inputs, await stream.outputs())
    assert verdict.lost == [(0, offset) for offset in range(log_start - len(verdict.lost), log_start)]
    assert 0 < len(verdict.lost) == lost
    assert (verdict.doubled, verdict.wrong, verdict.out_of_order) == ([], [], [])
    [logged] = [line for line in logs if line["event"] == "records.lost"]
    assert (logged["log_start"], logged["lost"]) == (log_start, lost)


@pytest.mark.parametrize("by_hand", [False, True])
async def test_partitions_added_while_a_worker_runs(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    """The worker finds them when it refreshes its metadata and reads them from their beginning, offsets or none."""

    def soon(**options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(**options | {"metadata_max_age_ms": 1000})

    monkeypatch.setattr(service, "AIOKafkaConsumer", soon)
    stream = await Stream.create(kafka.bootstrap_servers, partitions=2)
    grown = replace(stream, partitions=4)
    inputs = await stream.publish(generate(200, seed=26))
    async with running(stream) as registry:
        await stream.read(at_least=len(inputs))
        if by_hand:
            await stream.grow(grown.partitions, *stream.topics.outputs, stream.topics.input)
        else:
            async for _line in make_right(stream.kafka, stream.topics, stream.group, 4, None, dry_run=False):
                pass
        inputs |= await grown.publish(generate(400, seed=27))
        outputs = await grown.outputs(at_least=len(inputs))
        assert registry.get_sample_value("streamgauge_partitions_owned") == 4
    assert judge(inputs, outputs).is_clean
