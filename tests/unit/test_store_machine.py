"""Listeners of one, two and three shards and their copies, against the definitions, whatever happens to them."""

import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from prometheus_client import generate_latest

from feedback_listener import join, names, recount_audit, recount_records, unlabelled
from feedback_listener import recount as recount_module
from feedback_listener.audit import Terms
from feedback_listener.reconcile import differences, read_metrics
from feedback_listener.recount import recount
from feedback_listener.recount_records import Predicted, TopicRecords
from tests import truth
from tests.replica import Replica, stream_of, together
from tests.truth import DAY_MS, HOUR_MS, LEAD_MS, MINUTE_MS, Labelled, Record, Refused, Scored

BEGIN_MS = 1_800_000_012_345
WINDOW_MS = 3 * DAY_MS
CLASSES = ("NEGATIVE", "NEUTRAL", "POSITIVE")
TERMS = Terms(WINDOW_MS, HOUR_MS, 0.8, 0)
SHARDS = (1, 2, 3)
COPIES = {1: 1, 2: 2, 3: 1}

ids = st.sampled_from("abc")
partitions = st.integers(0, 2)
skews_ms = st.sampled_from([0, 0, -2 * MINUTE_MS, 90_000])
"""Brokers' clocks differ."""
indices = st.integers(0, 99)


class Listeners(RuleBasedStateMachine):
    """One listener, two copies of each of two shards, and three shards, all on the same topics."""

    @initialize(
        per_id=st.sampled_from([1, 2, 100]), models=st.sampled_from([1, 5]), cells=st.sampled_from([4, 6, 10, 200])
    )
    def start(self, per_id: int, models: int, cells: int) -> None:
        """How many records of one id take part, and how many names are exported, is little enough to be exceeded."""
        self.bounds = [
            patch.object(join, "MAX_PER_ID", per_id),
            patch.object(truth, "PER_ID", per_id),
            patch.object(recount_module, "PER_ID", per_id),
            patch.object(names, "MAX_MODELS", models),
            patch.object(names, "MAX_CELLS", cells),
        ]
        # So few labels make a confidence bin believed that some have them.
        self.bounds += [patch.object(module, "MIN_JUDGED", 2) for module in (unlabelled, recount_audit, truth)]
        for module in (truth, recount_module):
            self.bounds += [patch.object(module, "MODELS", models), patch.object(module, "CELLS", cells)]
        for bound in self.bounds:
            bound.start()
        self.now_ms = BEGIN_MS
        self.records: list[Record] = []
        self.next_offset: Counter[tuple[str, int]] = Counter()
        self.folder = tempfile.TemporaryDirectory(prefix="streamgauge-")
        self.replicas = {
            (shards, shard, copy): Replica(self.path(shards, shard, copy), self.now_ms, WINDOW_MS)
            for shards in SHARDS
            for shard in range(shards)
            for copy in range(COPIES[shards])
        }

    def path(self, *name: int) -> Path:
        return Path(self.folder.name) / "-".join(map(str, name))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for replica in self.replicas.values():
                replica.store.close()
            self.folder.cleanup()
            for bound in self.bounds:
                bound.stop()

    def append(self, stream: str, partition: int, skew_ms: int, make: Callable[[int, int, int], Record]) -> None:
        """Offsets have gaps, as markers of transactions leave them."""
        offset = self.next_offset[stream, partition] + len(self.records) % 2
        self.next_offset[stream, partition] = offset + 1
        self.records.append(make(partition, offset, self.now_ms + skew_ms))

    def unseen(self, key: tuple[int, int, int]) -> list[Record]:
        """What is retained, belongs to the shard, and has not been applied."""
        shards, shard, _copy = key
        horizon_ms = (self.now_ms - WINDOW_MS - LEAD_MS) // HOUR_MS * HOUR_MS
        own = [
            record
            for record in self.records
            if record.at_ms >= horizon_ms and (stream_of(record) != "results" or record.partition % shards == shard)
        ]
        return self.replicas[key].missing(own)

    @rule(
        message_id=ids,
        partition=partitions,
        skew_ms=skews_ms,
        predicted=st.integers(0, 2),
        confidence=st.sampled_from([0.34, 0.5, 0.7, 0.9, 1.0]),
        model=st.sampled_from(["m@1", "m@2"]),
        stream=st.sampled_from(["results", "audit"]),
    )
    def predict(
        self, message_id: str, partition: int, skew_ms: int, predicted: int, confidence: float, model: str, stream: str
    ) -> None:
        """An id may be predicted again, by another model, in another partition. The audit's are read by every shard."""
        scores = dict.fromkeys(CLASSES, (1 - confidence) / 2) | {CLASSES[predicted]: confidence}
        label = CLASSES[predicted]
        is_audited = stream == "audit"
        self.append(
            stream,
            partition,
            skew_ms,
            lambda p, offset, at: Scored(message_id, p, offset, at, label, scores, model, is_audited),
        )

    @rule(
        message_id=ids,
        partition=partitions,
        skew_ms=skews_ms,
        label=st.sampled_from([*CLASSES, "BORED"]),
        source=st.sampled_from([None, "anna", "ben"]),
    )
    def label(self, message_id: str, partition: int, skew_ms: int, label: str, source: str | None) -> None:
        """A first label, a repetition, a correction, one that is no class."""
        self.append(
            "feedback", partition, skew_ms, lambda p, offset, at: Labelled(message_id, p, offset, at, label, source)
        )

    @rule(
        stream=st.sampled_from(["results", "feedback", "audit"]),
        partition=partitions,
        reason=st.sampled_from(["null_value", "broken_json", "invalid_field"]),
    )
    def spoil(self, stream: str, partition: int, reason: str) -> None:
        """A record that cannot be read."""
        self.append(stream, partition, 0, lambda p, offset, at: Refused(stream, p, offset, at, reason))

    @rule(span_ms=st.sampled_from([1000, MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, 11 * HOUR_MS, LEAD_MS, DAY_MS, WINDOW_MS]))
    def pass_time(self, span_ms: int) -> None:
        """Windows move on whether or not anything is read."""
        self.now_ms += span_ms

    @rule(index=indices, chosen=partitions, count=st.integers(0, 4))
    def deliver(self, index: int, chosen: int, count: int) -> None:
        """A listener reads some records of one partition of each topic."""
        key = list(self.replicas)[index % len(self.replicas)]
        records = [record for record in self.unseen(key) if record.partition == chosen][:count]
        self.replicas[key].apply(records, self.now_ms)

    @rule(index=indices, lose_disk=st.booleans())
    def restart(self, index: int, lose_disk: bool) -> None:
        """With its file, or without."""
        list(self.replicas.values())[index % len(self.replicas)].restart(self.now_ms, lose_disk=lose_disk)

    @rule(index=indices)
    def crash(self, index: int) -> None:
        """The process ends in the middle of a transaction, at its last statement."""
        key = list(self.replicas)[index % len(self.replicas)]
        replica = self.replicas[key]
        records = self.unseen(key)
        if not records:
            return

        broken = patch.object(replica.store._tables, "move", side_effect=KeyboardInterrupt)
        with broken, pytest.raises(KeyboardInterrupt):
            replica.apply(records, self.now_ms)
        replica.restart(self.now_ms)

    @rule()
    def settle(self) -> None:
        """When all has been read, every sharding shows the numbers of the definitions."""
        expected = truth.numbers(self.records, self.now_ms, WINDOW_MS)
        for key, replica in self.replicas.items():
            replica.apply(self.unseen(key), self.now_ms)
        for shards in SHARDS:
            shown = together(replica for key, replica in self.replicas.items() if key[0] == shards)
            assert shown.keys() == expected.keys()
            for series, n in expected.items():
                # Delays are counted in 1024ths of a second, probabilities in millionths.
                assert shown[series] == pytest.approx(n, abs=0.05 if "delay" in str(series[0]) else 1e-4)
        scraped = read_metrics("a listener", generate_latest(self.replicas[1, 0, 0].registry).decode())
        assert (
            differences(scraped, recount(topic_records(self.records), self.now_ms, Terms(WINDOW_MS, HOUR_MS, 0.8, 0)))
            == []
        )


def topic_records(records: Iterable[Record]) -> TopicRecords:
    """As `reconcile` reads them from the topics."""
    found = TopicRecords()
    for r in records:
        match r:
            case Scored():
                found.predictions[r.id].append(
                    Predicted(r.at_ms, r.partition, r.offset, r.model, r.label, dict(r.scores), r.is_audited)
                )
            case Labelled():
                found.labels[r.id].append(recount_records.Labelled(r.at_ms, r.partition, r.offset, r.label, r.source))
            case Refused():
                found.refused.append((f"streamgauge_{r.stream}_refused", r.partition, r.reason, r.at_ms))
    return found


TestListeners = Listeners.TestCase
TestListeners.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    history=st.lists(
        st.tuples(st.booleans(), st.integers(0, 1), st.sampled_from([0, 1, 2, 22, 24, 25, 47, 70])), max_size=14
    ),
    per_id=st.integers(1, 2),
    dice=st.randoms(use_true_random=False),
)
def test_which_records_of_an_id_take_part_depends_on_no_order(
    history: list[tuple[bool, int, int]], per_id: int, dice: random.Random
) -> None:
    """Predictions and labels of one id, hours old, from brokers whose clocks differ; in any order and any batches."""
    unread: dict[tuple[bool, int], list[Record]] = defaultdict(list)
    for is_label, partition, hours_ago in history:
        own = unread[is_label, partition]
        at = partition, len(own), BEGIN_MS - hours_ago * HOUR_MS - len(own)
        label = dice.choice([*CLASSES, "BORED"])
        own.append(
            Labelled("a", *at, label) if is_label else Scored("a", *at, "NEUTRAL", dict.fromkeys(CLASSES, 1 / 3))
        )
    records = [record for own in unread.values() for record in own]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for module, name in ((join, "MAX_PER_ID"), (truth, "PER_ID"), (recount_module, "PER_ID")):
            stack.enter_context(patch.object(module, name, per_id))
        replica = Replica(Path(folder) / "x", BEGIN_MS, WINDOW_MS)
        while left := [own for own in unread.values() if own]:
            own = dice.choice(left)
            count = dice.randint(1, len(own))
            replica.apply(own[:count], BEGIN_MS)
            del own[:count]
        expected, shown = truth.numbers(records, BEGIN_MS, WINDOW_MS), replica.exported()
        replica.store.close()
    assert shown.keys() == expected.keys()
    assert all(shown[series] == pytest.approx(n, abs=1e-2) for series, n in expected.items())
