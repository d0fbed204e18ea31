"""Batches of records as any program may send them, byte for byte: packed, broken, or telling lies."""

import struct
from collections.abc import Sequence
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition

import streamgauge.aiokafka_records  # noqa: F401 - it changes how the fetcher reads

TP = TopicPartition("topic", 0)
HEADER_BYTES, CRC_AT, CHECKED_FROM, COUNT_AT = 61, 17, 21, 57
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def plain_batch(values: Sequence[bytes | None], offsets: Sequence[int] | None = None) -> bytes:
    """Uncompressed; `offsets`: what the records say of their own place, from the first on."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 2**31 - 1)
    for offset, value in zip(offsets or range(len(values)), values, strict=True):
        builder.append(offset, 5, None, value, [])
    batch = bytearray(builder.build())
    struct.pack_into(">i", batch, CHECKED_FROM + 2, len(values) - 1)
    return with_checksum(batch)


def packed_batch(codec: int, packed: bytes, count: int) -> bytes:
    """A batch of `count` records which are this, packed so."""
    batch = bytearray(plain_batch([b""] * count)[:HEADER_BYTES]) + packed
    batch[CHECKED_FROM + 1] |= codec
    return with_checksum(batch)


def with_checksum(batch: bytearray) -> bytes:
    """With the length and the checksum that fit."""
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[CHECKED_FROM:])))
    return bytes(batch)


def lz4_frame(data: bytes) -> bytes:
    """As Kafka's clients pack it."""
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    compressor.compress(data)
    return bytes(compressor.finish())


def bomb(size_bytes: int) -> bytes:
    """The records of a batch, one text of about so many bytes, as a frame of zstd that is 30,000 times smaller.

    It does not say what it unpacks to: https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1
    """
    repeats = size_bytes >> 17
    value_bytes = repeats << 17
    start = bytes([0, 0, 0, 1]) + encoded_varint(value_bytes)
    body = encoded_varint(len(start) + value_bytes + 1) + start
    raw = (len(body) << 3).to_bytes(3, "little") + body
    repeat = (1 << 1 | 1 << 17 << 3).to_bytes(3, "little") + b"x"
    end = (1 | 1 << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x38" + raw + repeat * repeats + end


def encoded_varint(number: int) -> bytes:
    """As records hold numbers."""
    encoded = bytearray()
    encode_varint(number, encoded.append)
    return bytes(encoded)


def at(offset: int, batch: bytes) -> bytes:
    """The batch, where the broker has put it."""
    return offset.to_bytes(8, "big") + batch[8:]


def polls(answer: bytes, offset: int = 0) -> Any:
    """What a fetch becomes when this is answered."""
    records = fetcher.MemoryRecords(answer)
    of_partition = fetcher.PartitionRecords(TP, records, [], offset, None, None, True, 1)
    return fetcher.FetchResult(TP, partition_records=of_partition, assignment=None, backoff=0)


class RawBatch(BatchBuilder):
    """What a producer sends as it is."""

    def __init__(self, batch: bytes) -> None:
        super().__init__(2**20, 0)
        self._bytes = batch

    def record_count(self) -> int:
        (count,) = struct.unpack_from(">i", self._bytes, COUNT_AT)
        return int(count)

    def size(self) -> int:
        return len(self._bytes)

    def _build(self) -> bytes:
        return self._bytes


async def send_batch(bootstrap_servers: str, topic: str, batch: bytes, partition: int = 0) -> int:
    """Send it as it is; returns the offset of its first record. Raises KafkaError when the broker refuses it."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, max_request_size=2**26) as producer:
        builder = RawBatch(batch)
        builder.close()
        return int((await (await producer.send_batch(builder, topic, partition=partition))).offset)


async def let_in(bootstrap_servers: str, topic: str) -> None:
    """Make the topic keep batches as they were sent, as one made by somebody else would; what else is set is lost."""
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        config = {"compression.type": "producer", "message.timestamp.type": "LogAppendTime"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    finally:
        await admin.close()
