"""The credit of a record is at least what Python allocates for it, whatever a stranger sends."""

import asyncio
import gc
import json
import tracemalloc
from array import array
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, MemoryRecords, PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition

from streamgauge.aiokafka_records import RawName
from streamgauge.events import MAX_HEADERS, MAX_ID_CHARS, MAX_METADATA_BYTES
from tests.echo import EchoModel
from tests.pipeline.conftest import Bench
from worker.model.scorer import TokenIds
from worker.outcomes import Headers, InputRecord
from worker.tenure import Tenure

RECORDS = 50
NOISE_BYTES = 30_000
"""What the pipeline itself allocates meanwhile."""
FIELDS = {f"{number:x}": 0 for number in range(500)}
KINDS: dict[str, tuple[bytes | None, Headers]] = {
    "a short text": (b"a fine film", []),
    "the longest text": (b"a " * 65_000, []),
    "the widest text": ("\U0001f600".encode() * 30_000, []),
    "too large a text": (b"a" * 400_000, []),
    "nothing": (None, []),
    "many small fields": (json.dumps({"text": "a", "metadata": FIELDS}).encode(), []),
    "the widest id": (json.dumps({"text": "a", "id": "\U0001f600" * MAX_ID_CHARS}, ensure_ascii=False).encode(), []),
    "as many headers as pass": (b"a", [(f"{number}", b"") for number in range(MAX_HEADERS)]),
    "very many headers": (b"a", [("", None)] * 5_000),
    "headers that are not UTF-8": (b"a", [(RawName(b"\xff" * 40), b"1")] * MAX_HEADERS),
    "headers that are wide": (b"a", [(f"\U0001f600{'a' * 2000}", b"1")] * 20),
}


class ByteModel(EchoModel):
    """A token a byte, as many as a model reads, kept as the real one keeps them."""

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        return [(array("i", [500, *text.encode()][:512]), False) for text in texts]


def fetched(kind: str) -> list[InputRecord]:
    """Records of this kind as a consumer hands them out."""
    value, headers = KINDS[kind]
    builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, 0, 2**22)
    builder.append(0, 1_700_000_000_000, b"key", value, list(headers))
    batch = bytearray(builder.build())
    records: list[InputRecord] = []
    for offset in range(RECORDS):
        batch[:8] = offset.to_bytes(8, "big")  # where a broker writes the offset of a batch
        tp = TopicPartition("sentiment.input", 0)
        records += PartitionRecords(tp, MemoryRecords(bytes(batch)), [], 0, None, None, True, READ_UNCOMMITTED)
    return records


async def polled(bench: Bench, kind: str) -> AsyncIterator[list[tuple[Tenure, Sequence[InputRecord]]]]:
    yield [(bench.tenure, fetched(kind))]


@pytest.mark.parametrize("kind", KINDS)
async def test_credit_counts_what_python_allocates(make_bench: Callable[..., Bench], kind: str) -> None:
    """From fetched to scored, all that is held for these records is in the credit; of a usual one not many times it."""
    bench = make_bench(ByteModel())
    assert bench.credit.bytes == 0
    gc.collect()
    tracemalloc.start()
    async with asyncio.TaskGroup() as stages:
        stages.create_task(bench.pipeline.intake(polled(bench, kind)))
        stages.create_task(bench.pipeline.infer())
    gc.collect()
    held_bytes, _peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bench.tenure.held_records == RECORDS
    print(f"{kind}: {held_bytes / RECORDS:,.0f} bytes a record, {bench.credit.bytes / RECORDS:,.0f} of credit")
    assert held_bytes <= bench.credit.bytes + NOISE_BYTES
    assert bench.credit.bytes <= 5 * held_bytes


def test_the_kinds_are_the_largest_that_pass() -> None:
    """Else the test above would measure refusals."""
    assert MAX_METADATA_BYTES * 0.9 < len(json.dumps(FIELDS, separators=(",", ":"))) <= MAX_METADATA_BYTES
