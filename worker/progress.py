"""What a committed offset tells besides its number: what the transaction before it wrote, and where. Pure.

The metadata of a committed offset travels with it, atomically and for that partition alone. Whoever opens the
partition next compares it with what readers see: a broker that breaks its word is found out.
"""

from collections.abc import Iterable, Mapping

import msgspec
from aiokafka.structs import OffsetAndMetadata

from streamgauge.events import NO_EVENT

SKIP_PREFIX = "skip:"
"""The form of earlier versions, in which metadata held skips and nothing else."""


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Where the records of one transaction stand in one output: `records` of them, from offset `first` on."""

    topic_id: str
    first: int
    records: int

    @property
    def end(self) -> int:
        return self.first + self.records


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The last transaction of a partition: it covered the source offsets from `first` up to before `next`."""

    input_id: str
    """The topic that the offsets are of: a topic made anew has another id."""
    first: int
    next: int
    outputs: dict[str, Stretch]
    """By topic. Where it wrote nothing, the stretch begins with what was written last."""
    skips: tuple[int, ...] = ()
    """Offsets from `first` on that an operator has told to leave unscored."""

    def on(self, topic_ids: Mapping[str, str]) -> "Progress":
        """The same, of these outputs (ids by topic): it has left nothing in one that it does not know.

        That is a topic that was made anew, or one that an earlier version did not write to.
        """
        outputs = {}
        for topic, topic_id in topic_ids.items():
            before = self.outputs.get(topic)
            outputs[topic] = before if before and before.topic_id == topic_id else Stretch(topic_id, 0, 0)
        return msgspec.structs.replace(self, outputs=outputs)

    def after(self, first: int, next_offset: int, sent: Mapping[str, tuple[int, int]]) -> "Progress":
        """What the next transaction leaves behind; `sent` by topic: its first record's offset, and how many."""
        outputs = {}
        for topic, before in self.outputs.items():
            if topic in sent:
                position, records = sent[topic]
                # A broker that has the batch already does not always tell where.
                outputs[topic] = Stretch(before.topic_id, max(position, before.end), records)
            else:
                # What stands there may be the rest of a transaction that this one does the beginning of again.
                outputs[topic] = Stretch(before.topic_id, before.first, 0)
        # Not only those ahead: should this transaction be found missing, its records are scored again.
        skips = tuple(offset for offset in self.skips if offset >= first)
        return Progress(input_id=self.input_id, first=first, next=next_offset, outputs=outputs, skips=skips)

    def committed(self) -> OffsetAndMetadata:
        """As it is committed."""
        return OffsetAndMetadata(self.next, msgspec.json.encode(self).decode())


def progress_of(committed: OffsetAndMetadata) -> Progress | None:
    """None when somebody else has set the offset: another tool, an earlier version, or `topics create`."""
    try:
        progress = msgspec.json.decode(committed.metadata, type=Progress)
    except NO_EVENT:
        return None
    return progress if 0 <= progress.first <= progress.next == committed.offset else None


def skips_of(committed: OffsetAndMetadata) -> frozenset[int]:
    """The offsets not to score; somebody else's metadata holds none."""
    if progress := progress_of(committed):
        return frozenset(progress.skips)
    if not committed.metadata.startswith(SKIP_PREFIX):
        return frozenset()
    listed = committed.metadata.removeprefix(SKIP_PREFIX).split(",")
    return frozenset(int(offset) for offset in listed if offset.isdecimal())


def with_skips(committed: OffsetAndMetadata, skips: Iterable[int]) -> OffsetAndMetadata:
    """The same offset, and what it tells, with these skips that lie ahead of it."""
    ahead = tuple(sorted(offset for offset in skips if offset >= committed.offset))
    if progress := progress_of(committed):
        return msgspec.structs.replace(progress, skips=ahead).committed()
    return OffsetAndMetadata(committed.offset, SKIP_PREFIX + ",".join(map(str, ahead)) if ahead else "")
