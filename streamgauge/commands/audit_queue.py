"""Which audited predictions are still to be labelled: the audit topic joined with the feedback topic.

The join window, the lead of labels and the refusal of records are the listener's (`feedback_listener/join.py`): what is
asked for here is what it waits for. A label that it refuses as crowded counts here.
"""

from collections.abc import Mapping
from contextlib import suppress

import msgspec
from aiokafka.structs import TopicPartition

from feedback_listener.decoding import ConsumedRecord, decode_label, decode_result
from feedback_listener.join import LABEL_LEAD_MS, Horizons
from feedback_listener.records import Refusal
from feedback_listener.tally import MINUTE_MS
from streamgauge.commands.reading import begin_at
from streamgauge.events import NO_EVENT, ModelRef, Position, decode_prediction
from streamgauge.kafka import answered
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.topic_reading import polls_up_to, topic_reader


class Audited(msgspec.Struct, frozen=True, gc=False):
    """A prediction that is in the audit, without what it says: who labels it must not know."""

    id: str
    at_ms: int
    """When its result was written, by the broker's clock, since the epoch."""
    model: ModelRef
    classes: tuple[str, ...]
    """In the order of the model's output."""
    source: Position


class Unlabelled:
    """Audited predictions, until a label for their id names one of their classes. Pure; labels come last.

    Holds some 500 bytes a prediction, and no label.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[Audited, ...]] = {}
        self._models: dict[tuple[ModelRef, tuple[str, ...]], tuple[ModelRef, tuple[str, ...]]] = {}
        """Each model with its classes once, and not once a prediction."""

    def add_prediction(self, record: ConsumedRecord) -> None:
        """A record of the audit topic; what the listener refuses is left out."""
        if isinstance(decode_result(record.value), Refusal):
            return
        with suppress(*NO_EVENT):
            event = decode_prediction(record.value or b"")
            pair = event.model, tuple(event.scores)
            audited = Audited(event.id, record.timestamp, *self._models.setdefault(pair, pair), event.source)
            self._by_id[event.id] = (*self._by_id.get(event.id, ()), audited)

    def add_label(self, record: ConsumedRecord) -> None:
        """A record of the feedback topic: labels each prediction of its id that it may judge."""
        feedback = decode_label(record.value)
        if isinstance(feedback, Refusal) or feedback.id not in self._by_id:
            return
        last_ms = record.timestamp + LABEL_LEAD_MS
        predictions = self._by_id.pop(feedback.id)
        if left := tuple(one for one in predictions if feedback.label not in one.classes or one.at_ms > last_ms):
            self._by_id[feedback.id] = left

    def oldest_first(self) -> list[Audited]:
        """One prediction an id, the oldest: a label for it is one for all of its id."""
        oldest = [min(predictions, key=_age) for predictions in self._by_id.values()]
        return sorted(oldest, key=_age)


def _age(audited: Audited) -> tuple[int, int, int]:
    return audited.at_ms, audited.source.partition, audited.source.offset


async def read_unlabelled(
    kafka: KafkaSettings, topics: TopicSettings, partitions: Mapping[str, int], now_ms: int
) -> list[Audited]:
    """What is to be labelled now, the oldest first. `partitions`: how many each topic has.

    Raises StreamgaugeError when Kafka is silent for `connect_timeout_s`.
    """
    found = Unlabelled()
    since_ms = Horizons.at(now_ms, topics.join_window_ms, 0).retained * MINUTE_MS
    to_read = (
        (topics.audit, since_ms, found.add_prediction),
        (topics.feedback, since_ms - LABEL_LEAD_MS, found.add_label),
    )
    async with topic_reader(kafka) as consumer:
        for name, first_ms, add in to_read:
            own = [TopicPartition(name, number) for number in range(partitions[name])]
            await begin_at(kafka, consumer, own, max(0, first_ms))
            ends = await answered(kafka, consumer.end_offsets(own), "ends were asked for")
            async for polled in polls_up_to(consumer, ends, kafka):
                for records in polled.values():
                    for record in records:
                        add(record)
    return found.oldest_first()
