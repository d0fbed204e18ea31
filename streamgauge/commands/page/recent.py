"""What the page knows of the last records in the topics. Pure: records go in, and nothing here waits for Kafka.

Of each kind so many are kept, the last ones. What is older is not known here.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from streamgauge.events import (
    CONNECT_ERRORS,
    NO_EVENT,
    Position,
    TextSubmitted,
    Timings,
    decode_feedback,
    decode_prediction,
    last_header,
)

MAX_RESULTS = 20_000
"""Some 600 bytes each."""
MAX_LABELS = 20_000
MAX_DEAD_LETTERS = 1_000

T = TypeVar("T")

_decode_text = msgspec.json.Decoder(TextSubmitted).decode


class Record(Protocol):
    """What is read of a Kafka record."""

    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A result, as far as the page shows it."""

    id: str
    at_ms: int
    """When it was written, by the broker's clock, since the epoch."""
    label: str
    score: float
    """The probability of `label`, 0 to 1."""
    classes: tuple[str, ...]
    """In the order of the model's output."""
    source: Position
    timings: Timings

    @property
    def stream_s(self) -> float:
        """From when the broker took the text to when it took the result, in seconds; both by its clock."""
        return max(0, self.at_ms - self.source.timestamp_ms) / 1000


class Given(NamedTuple):
    """The last label of an id."""

    label: str
    source: str | None
    at_ms: int


class Judgement(NamedTuple):
    """A result and the label that says whether it is right."""

    seen: Seen
    given: Given

    @property
    def is_right(self) -> bool:
        return self.seen.label == self.given.label


class Recent:
    """The last results, labels and dead letters, by message id. Of several results with one id the last counts."""

    def __init__(self) -> None:
        self.results: OrderedDict[str, Seen] = OrderedDict()
        """The newest last."""
        self.labels: OrderedDict[str, Given] = OrderedDict()
        """The newest last. Labels come before the results of their ids as well."""
        self.dead_letters: OrderedDict[str, str] = OrderedDict()
        """Why a text that was sent with an id in JSON could not be scored."""
        self._classes: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Each list of classes once, and not once a result."""

    def add_result(self, record: Record) -> None:
        """A record of the results topic; what is none of ours is left out."""
        with suppress(*NO_EVENT):
            event = decode_prediction(record.value or b"")
            names = tuple(event.scores)
            classes = self._classes.setdefault(names, names)
            seen = Seen(event.id, record.timestamp, event.label, event.score, classes, event.source, event.timings)
            _put(self.results, event.id, seen, MAX_RESULTS)

    def add_label(self, record: Record) -> None:
        """A record of the feedback topic."""
        with suppress(*NO_EVENT):
            event = decode_feedback(record.value or b"")
            _put(self.labels, event.id, Given(event.label, event.source, record.timestamp), MAX_LABELS)

    def add_dead_letter(self, record: Record) -> None:
        """A record of the dead-letter topic, if its id can be told."""
        with suppress(*NO_EVENT):
            message_id = _decode_text(record.value or b"").id
            reason = last_header(record.headers, f"{CONNECT_ERRORS}exception.class.name") or b"?"
            if message_id:
                _put(self.dead_letters, message_id, reason.decode(errors="replace"), MAX_DEAD_LETTERS)

    def is_labelled(self, message_id: str, classes: tuple[str, ...]) -> bool:
        """Whether its last label is one of its classes."""
        given = self.labels.get(message_id)
        return given is not None and given.label in classes

    def judgements(self, most: int) -> list[Judgement]:
        """The last so many labels of results that are known, the newest first."""
        return list(islice(self._judgements(), most))

    def _judgements(self) -> Iterator[Judgement]:
        for message_id, given in reversed(self.labels.items()):
            seen = self.results.get(message_id)
            if seen and given.label in seen.classes:
                yield Judgement(seen, given)


def _put(kept: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
