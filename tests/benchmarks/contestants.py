"""What the worker is compared with, each a process of its own: `python -m tests.benchmarks.contestants NAME JSON`.

`ceiling`: tokenise and score in the best batches that can be cut from as many texts as the worker may hold; no Kafka.
`naive`: the worker that one would write first: one poll, pad to the longest, one run, send, commit.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from worker.model.scorer import TokenIds
from worker.model.session import OnnxModel

NAIVE_RECORDS = 32


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a contestant needs to know."""

    model_dir: str
    texts_file: str = ""
    """A JSON list; not for those that read from Kafka."""
    max_batch_tokens: int = 512
    held_texts: int = 1024
    """As many as the worker may hold between fetch and commit."""
    bootstrap_servers: str = ""
    prefix: str = ""
    group: str = ""


class Counts(msgspec.Struct, frozen=True):
    """What has been done so far; `padded_tokens`: longest x count, summed over the batches."""

    texts: int = 0
    batches: int = 0
    tokens: int = 0
    padded_tokens: int = 0

    def with_batch(self, batch: Sequence[TokenIds]) -> "Counts":
        lengths = list(map(len, batch))
        return Counts(
            self.texts + len(batch),
            self.batches + 1,
            self.tokens + sum(lengths),
            self.padded_tokens + max(lengths) * len(batch),
        )

    def since(self, earlier: "Counts") -> "Counts":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(earlier)
        return Counts(*(now - then for now, then in zip(mine, theirs, strict=True)))


def sorted_batches(encoded: Sequence[TokenIds], max_batch_tokens: int) -> Iterator[list[TokenIds]]:
    """All texts by length, cut where longest x count would be over the budget."""
    batch: list[TokenIds] = []
    for ids in sorted(encoded, key=len):
        if batch and len(ids) * (len(batch) + 1) > max_batch_tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def score_all(model: OnnxModel, texts: Sequence[str], plan: Plan, pool: ThreadPoolExecutor) -> Counts:
    """Tokenise and score all."""
    done = Counts()
    for start in range(0, len(texts), plan.held_texts):
        encoded = model.encode(list(texts[start : start + plan.held_texts]))
        batches = list(sorted_batches([ids for ids, _truncated in encoded], plan.max_batch_tokens))
        for batch, scores in zip(batches, pool.map(model.score, batches), strict=True):
            assert len(batch) == len(scores)
            done = done.with_batch(batch)
    return done


def best_plan(model: OnnxModel, texts: Sequence[str], plan: Plan, pool: ThreadPoolExecutor) -> Plan:
    """With the size of batch, of half, one and two times the given, that takes the least CPU for these texts."""

    def cpu_s(plan: Plan) -> float:
        began_s = time.process_time()
        score_all(model, texts, plan, pool)
        return time.process_time() - began_s

    sizes = (plan.max_batch_tokens // 2, plan.max_batch_tokens, plan.max_batch_tokens * 2)
    return min((msgspec.structs.replace(plan, max_batch_tokens=size) for size in sizes), key=cpu_s)


def ceiling(plan: Plan) -> None:
    """Loads and warms up, says so, scores when it is told to, and says what it did."""
    texts: list[str] = json.loads(Path(plan.texts_file).read_text())
    model = OnnxModel.load(Path(plan.model_dir), max_tokens=512)
    model.verify()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        plan = best_plan(model, texts[: len(texts) // 8 + 1], plan, pool)
        print("ready", flush=True)
        sys.stdin.readline()
        print(msgspec.json.encode(score_all(model, texts, plan, pool)).decode(), flush=True)
        sys.stdin.readline()


async def naive(plan: Plan) -> None:
    """Runs until it is killed."""
    model = OnnxModel.load(Path(plan.model_dir), max_tokens=512)
    consumer = AIOKafkaConsumer(
        f"{plan.prefix}.input",
        bootstrap_servers=plan.bootstrap_servers,
        group_id=plan.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=60_000,  # its loop stands still while the model runs
    )
    producer = AIOKafkaProducer(bootstrap_servers=plan.bootstrap_servers)
    done = Counts()
    async with consumer, producer:
        while True:
            polled = await consumer.getmany(timeout_ms=1000, max_records=NAIVE_RECORDS)
            records = [record for fetched in polled.values() for record in fetched]
            if not records:
                continue
            batch = [ids for ids, _truncated in model.encode([record.value.decode() for record in records])]
            done = done.with_batch(batch)
            print(msgspec.json.encode(done).decode(), file=sys.stderr, flush=True)
            for record, row in zip(records, model.score(batch), strict=True):
                result = result_of(record, model.labels[int(np.argmax(row))], float(row.max()))
                await producer.send(f"{plan.prefix}.results", result, partition=record.partition)
            await producer.flush()
            await consumer.commit()


def result_of(record: Any, label: str, score: float) -> bytes:
    """Less than the worker tells: that is no handicap."""
    source = f"{record.topic}-{record.partition}-{record.offset}"
    return msgspec.json.encode({"id": source, "label": label, "score": round(score, 6)})


def main() -> None:
    name, plan = sys.argv[1], msgspec.json.decode(sys.argv[2], type=Plan)
    if name == "ceiling":
        ceiling(plan)
    else:
        asyncio.run(naive(plan))


if __name__ == "__main__":
    main()
