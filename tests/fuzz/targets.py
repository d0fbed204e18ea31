"""What must hold of whatever strangers send: a target takes the dice, makes one case, and asserts.

A decoder gives a value or a refusal, never an exception; nothing is lost. A file is read, or refused by name.
"""

import itertools
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from feedback_listener.decoding import Kinds, decode_records, original, storable
from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import RecordBatch, Stream
from producer.corpus import Corpus
from producer.publish import feedback_record, text_record
from streamgauge.commands.stats import Stats, add_all
from streamgauge.commands.tail import line, lines_of
from streamgauge.errors import ConfigurationError
from streamgauge.events import MAX_ID_CHARS, Reason, decode_measurement, encode
from streamgauge.settings import TopicSettings
from streamgauge.topics import Topic
from streamgauge.unpacking import Unread
from tests.echo import EchoModel, echo_probability
from tests.fuzz.making import (
    AUDITED,
    FEEDBACK,
    MEASURED,
    RESULT,
    TEXT,
    Dice,
    file_of_rows,
    headers,
    metadata,
    mutated,
    one_of,
    record,
    record_value,
    some_bytes,
)
from tests.fuzz.making import text as any_text
from tests.raw_batches import CODECS, HEADER_BYTES, at, bomb, lz4_frame, packed_batch, plain_batch, polls
from tests.records import NEW, FakeRecord
from worker.audit import Audit
from worker.credit import held_bytes
from worker.dead_letters import ADDED, REPLAYED_HEADER
from worker.intake import decode
from worker.model.session import OnnxModel
from worker.outcomes import Accepted, Encoded, InputRecord, ModelIdentity, Refused, Scored, Visible
from worker.output import Origin, fitting, output_records
from worker.progress import progress_of, skips_of, with_skips
from worker.replay import record_back, why_not
from worker.settings import WorkerSettings
from worker.visible import _Found

Target = Callable[[Dice], None]

TOPICS = TopicSettings()
NO_AUDIT = Audit(0, "")
MAX_TEXT_BYTES = 1000
IDENTITY = ModelIdentity(EchoModel.ref, EchoModel.labels)
NAMES = ["content-type", "ce_source", "ce_id", "ce_type", "traceparent", *ADDED, REPLAYED_HEADER, "shop"]
VALUES = [
    *b"application/json text/plain /streamgauge/g g in-0-7 in 0 7 not_utf8".split(),
    *(b"9" * 30, b"9" * 5000),
    *(reason.value.encode() for reason in Reason),
]


def outcome_of(found: InputRecord, max_text_bytes: int = MAX_TEXT_BYTES) -> Scored | Refused:
    """As the worker makes it, but for the model."""
    decoded = decode(found, max_text_bytes=max_text_bytes)
    if isinstance(decoded, Refused):
        return decoded
    [(ids, truncated)] = EchoModel().encode([decoded.text])
    encoded = Encoded(decoded.record, decoded.message_id, decoded.metadata, ids, truncated, 0.1, 0.1)
    positive = echo_probability(decoded.text)
    return Scored(encoded, IDENTITY, [1 - positive, positive], 0.1, 0.1, 3.0, 0.3)


def intake(dice: Dice) -> None:
    """Each record is a text or a refusal, and either can be written, and read again."""
    given = record(dice, TOPICS.input, record_value(dice, TEXT), headers(dice, NAMES, VALUES))
    outcome = outcome_of(given)
    assert held_bytes(given) > len(given.value or b"") + len(given.key or b"")
    if isinstance(outcome, Scored):
        assert 0 < len(outcome.text.message_id) <= MAX_ID_CHARS or outcome.text.message_id.startswith(given.topic)
    written = output_records([fitting(outcome, 10_000)], Origin("g", "w"), NO_AUDIT, EchoModel.ref, TOPICS, 1.0)
    assert [one.topic for one in written] == [
        TOPICS.results if isinstance(outcome, Scored) else TOPICS.dead_letter,
        TOPICS.metrics,
    ]
    _show(given, written[0].value, written[0].headers, "results" if isinstance(outcome, Scored) else "dead-letters")


def _show(given: InputRecord, value: bytes | None, its_headers: Any, what: str) -> str:
    topic, line_of = lines_of(what, TOPICS, with_values=True)
    shown = line(type(given)(value, given.offset, given.key, its_headers, topic), line_of)  # type: ignore[call-arg]
    assert shown.isprintable()
    return shown


def listener(dice: Dice) -> None:
    """Each record is a prediction, a label, or counted as refused; what is stored is what was sent."""
    stream, fields, topic = dice.choice(
        [(Stream.RESULTS, RESULT, TOPICS.results), (Stream.FEEDBACK, FEEDBACK, TOPICS.feedback)]
    )
    given, batch, kinds = record(dice, topic, record_value(dice, fields), []), RecordBatch(), Kinds()
    decode_records([(stream, given)], kinds, batch, MinuteLog())
    assert len(batch) + sum(batch.refusals.values()) == 1
    encode([*batch.labels, *batch.predictions])
    for message_id in [*(label.id for label in batch.labels), *(result.id for result in batch.predictions)]:
        assert "\0" not in message_id
        assert storable(original(message_id)) == message_id


def shown(dice: Dice) -> None:
    """`tail` shows each record in one line that steers no terminal."""
    what, fields = dice.choice([("results", RESULT), ("audit", AUDITED), ("metrics", MEASURED), ("dead-letters", TEXT)])
    given = record(dice, TOPICS.results, record_value(dice, fields), headers(dice, NAMES, VALUES))
    _show(given, given.value, given.headers, what)


def stats(dice: Dice) -> None:
    """What is no metric event is left out; of all others there are sums."""
    for by in ("time", "worker", "partition", "model"):
        sums = Stats(by, 60)
        add_all(sums, [record_value(dice, MEASURED) for _ in range(3)])
        rows = sums.rows()
        assert not rows or "all" in rows


def visible(dice: Dice) -> None:
    """Of an output that others write to as well, only what is like ours counts; and it can be counted on from there."""
    found = _Found(TopicPartition("in", 0), NEW, "g", TOPICS)
    predictions = [(TOPICS.results, RESULT), (TOPICS.audit, AUDITED)]
    topic, fields = dice.choice([*predictions, (TOPICS.metrics, MEASURED), (TOPICS.dead_letter, TEXT)])
    ours = [("ce_source", b"/streamgauge/g"), ("ce_id", b"in-0-" + dice.choice([b"7", some_bytes(dice)]))]
    given = record(dice, topic, record_value(dice, fields), [*headers(dice, NAMES, VALUES), *ours])
    found.add(given)
    for shown in found.shown.values():
        seen = [Visible(given, shown)]
        *_unpaired, event = output_records(seen, Origin("g", "w"), NO_AUDIT, EchoModel.ref, TOPICS, 1.0)
        decode_measurement(event.value or b"")


def replay(dice: Dice) -> None:
    """A dead letter goes back, or it is said why not."""
    letter = record(dice, TOPICS.dead_letter, record_value(dice, TEXT), headers(dice, NAMES, VALUES))
    target = Topic(TOPICS.input, 3, {"max.message.bytes": "10000"})
    back = record_back(letter, target)
    why = why_not(letter, dice.choice([*Reason]), target, back)
    assert why is None or why
    if why is None:
        outcome_of(type(letter)(back.value, 0, back.key, back.headers, target.name))


def progress(dice: Dice) -> None:
    """What is not ours in a committed offset's metadata is nobody's; what is can be gone on from."""
    committed = OffsetAndMetadata(dice.choice([0, 5, 6, 7, 2**40]), metadata(dice))
    found, skips = progress_of(committed), skips_of(committed)
    if found:
        assert 0 <= found.first <= found.next == committed.offset
        assert progress_of(found.after(found.first, found.next + 1, {}).committed())
    again = with_skips(committed, skips)
    assert again.offset == committed.offset
    assert skips_of(again) == {skip for skip in skips if skip >= committed.offset}


def batches(dice: Dice) -> None:
    """Each offset of a batch has one record, in order, whatever the batch holds; or it is corrupt as a whole."""
    values = [dice.choice([None, any_text(dice), some_bytes(dice)]) for _ in range(dice.choice([1, 2, 5, 50]))]
    said = [dice.choice([number, number, dice.randrange(-5, 2**31 - 1)]) for number in range(len(values))]
    plain = plain_batch(values, said if dice.random() < 0.3 else None)
    is_odd = dice.random() < 0.6
    records = mutated(dice, plain[HEADER_BYTES:]) if is_odd and dice.random() < 0.5 else plain[HEADER_BYTES:]
    codec = dice.choice([0, 0, *CODECS.values(), 5, 7])
    packed = packed_as(dice, codec, records)
    if is_odd and codec and dice.random() < 0.7:
        packed = mutated(dice, packed)
    if codec == 4 and dice.random() < 0.02:
        packed = bomb(2**28)
    batch = packed_batch(codec, packed, len(values))
    first = dice.choice([0, 7, 2**40])
    if dice.random() < 0.1:
        _assert_corrupt(at(first, mutated(dice, batch)), at(first, batch))
        return
    result = polls(at(first, batch) + at(first + len(values), plain_batch([b"after"])), first)
    read = list(result._partition_records)
    within = read if read[-1].offset < first + len(values) else read[:-1]
    assert [one.offset for one in within] == [*range(first, first + len(values))]
    if not is_odd and codec < 5 and not any(type(one.value) is Unread for one in within):
        assert [one.value for one in within] == values
    for one in within:
        outcome_of(one)


def packed_as(dice: Dice, codec: int, records: bytes) -> bytes:
    """As clients pack with this codec; as it is, where nobody knows the codec."""
    match codec:
        case 1:
            return bytes(cramjam.gzip.compress(records))
        case 2 if dice.random() < 0.5:
            return _snappy_blocks(records)
        case 2:
            return bytes(cramjam.snappy.compress_raw(records))
        case 3:
            return lz4_frame(records)
        case 4:
            return bytes(cramjam.zstd.compress(records))
    return records


def _snappy_blocks(data: bytes) -> bytes:
    blocks = [bytes(cramjam.snappy.compress_raw(data[start : start + 100])) for start in range(0, len(data), 100)]
    return b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


def _assert_corrupt(changed: bytes, batch: bytes) -> None:
    """What fits no checksum is an error of its partition; its offset, length and epoch are in none."""
    result = polls(changed)
    if changed[:16] == batch[:16] and changed[: len(batch)] != batch and len(changed) >= len(batch):
        assert type(result) is fetcher.FetchError
    if type(result) is not fetcher.FetchError:
        list(itertools.islice(result._partition_records, 1000))


def rows(dice: Dice) -> None:
    """A file is read as a whole, or refused with its name; what is read arrives as it was read."""
    name, content = file_of_rows(dice)
    path = _folder() / name
    path.write_bytes(content)
    try:
        corpus = Corpus.of_texts(path, 2**20)
        samples = list(corpus.samples())
    except ConfigurationError as error:
        _assert_named(path, error)
    else:
        assert len(samples) == corpus.texts
        for sample in samples:
            value, its_headers = text_record(sample, source="s", ce_id="1", now="now")
            arrived = decode(FakeRecord(value, headers=its_headers), max_text_bytes=2**20)
            assert isinstance(arrived, Accepted)
            assert (arrived.text, arrived.message_id) == (sample.text, sample.id or "s/1")
    try:
        labels = list(Corpus.of_labels(path).feedback())
    except ConfigurationError as error:
        _assert_named(path, error)
    else:
        for label in labels:
            feedback_record(label, now="now")


def _assert_named(path: Path, error: ConfigurationError) -> None:
    assert str(path) in str(error)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="streamgauge-fuzz-"))


def tokens(dice: Dice) -> None:
    """The default model's tokenizer takes any text that intake takes."""
    given = record(dice, TOPICS.input, one_of(dice, any_text, some_bytes, lambda d: any_text(d) * 100), [])
    decoded = decode(given, max_text_bytes=MAX_TEXT_BYTES)
    if isinstance(decoded, Accepted):
        [(ids, _truncated)] = _model().encode([decoded.text])
        assert 2 <= len(ids) <= 512


@cache
def _model() -> OnnxModel:
    return OnnxModel.load(WorkerSettings().model_dir, 512)


TARGETS: dict[str, tuple[Target, int]] = {
    "intake": (intake, 30_000),
    "listener": (listener, 20_000),
    "shown": (shown, 10_000),
    "stats": (stats, 5_000),
    "visible": (visible, 10_000),
    "replay": (replay, 10_000),
    "progress": (progress, 10_000),
    "batches": (batches, 20_000),
    "rows": (rows, 10_000),
    "tokens": (tokens, 5_000),
}
"""Each with how many cases are made of it by default: 130,000 in all."""


def dice_of(seed: int, target: str, case: int) -> Dice:
    """Of one case: it can be made again alone."""
    return Dice(f"{seed}/{target}/{case}")
