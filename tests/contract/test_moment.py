"""`reconcile --at`: what was known at a past moment is found again from the topics, whatever has come since."""

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from feedback_listener.audit import Terms
from feedback_listener.moment import as_json, moment, report_moment
from feedback_listener.settings import ListenerSettings
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client
from streamgauge.lifecycle import CLOCK, clock_ms
from tests.cluster import Kafka, Stream
from tests.contract.test_listener import (
    exported,
    give_feedback,
    label,
    listening,
    predict,
    result,
    total,
    write_a_history,
)

HOUR_MS = 3_600_000


def terms(stream: Stream) -> Terms:
    return ListenerSettings().terms(stream.topics.join_window_ms)


async def last_ms(stream: Stream) -> int:
    """When the broker took the last record of all; what is written from now on is later."""
    taken_ms = max(record.timestamp for record in await stream.read(stream.topics.joined))
    while clock_ms() <= taken_ms + 1:  # noqa: ASYNC110 - the broker's clock is this machine's
        await asyncio.sleep(0.001)
    return int(taken_ms)


async def test_a_past_moment_is_found_again(kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exactly what a listener showed then; new results, labels and corrections change nothing of it."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    at_ms = await last_ms(stream)
    still = CLOCK._replace(wall_ms=lambda: at_ms)
    async with listening(stream, tmp_path / "then.sqlite", clock=still) as (_listener, registry):
        then = exported(registry)
        assert total(registry, "audit_predictions") == 2
    await predict(stream, [result("new"), result("late")], audited=2)
    await give_feedback(stream, label("early", "POSITIVE"), label("new", "NEGATIVE"))
    found = await moment(stream.kafka, stream.topics, terms(stream), at_ms)
    shown = {
        (name, tuple(sorted(labels))): n
        for (name, labels), n in then.items()
        if n and name.startswith("streamgauge_") and dict(labels).keys() & {"model", "age", "reason"}
    }
    recounted = {key: n for key, n in found.numbers.items() if dict(key[1]).get("window", "all") == "all"}
    assert recounted == pytest.approx(shown, rel=1e-6, abs=2e-3)  # the listener rounds delays
    now = await moment(stream.kafka, stream.topics, terms(stream), clock_ms())
    assert now.numbers != found.numbers
    whole = json.loads(json.dumps(as_json(found)))
    assert whole["models"]["m@1"]["digests"] == ["sha256:0"]
    assert {alarm["is_enough"] for alarm in whole["models"]["m@1"]["alarms"].values()} == {False}
    assert sum(whole["positions"].values()) < sum(as_json(now)["positions"].values())
    await report_moment(stream.kafka, stream.topics, terms(stream), at_ms, is_json=False)
    printed = capsys.readouterr().out
    assert "\nm@1 sha256:0\n" in printed
    assert "StreamgaugeConceptDrift: evidence 10^" in printed


async def test_a_moment_may_be_long_ago(kafka: Kafka) -> None:
    """Before there was anything, where nothing has been deleted: nothing was known."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    assert (await moment(stream.kafka, stream.topics, terms(stream), 0)).numbers == {}


async def test_a_moment_that_is_not_retained_is_refused(kafka: Kafka) -> None:
    """What mattered then is gone, and the partition is named."""
    stream = await Stream.create(kafka.bootstrap_servers)
    await write_a_history(stream)
    async with admin_client(stream.kafka) as admin:
        await admin.delete_records({TopicPartition(stream.topics.feedback, 0): RecordsToDelete(before_offset=1)})
    with pytest.raises(StreamgaugeError, match=rf"{stream.topics.feedback}-0 begins at 20.*may not hold all that"):
        await moment(stream.kafka, stream.topics, terms(stream), clock_ms() - 2 * HOUR_MS)
    # Brokers delete nothing that is younger: what somebody deletes by hand is not looked for.
    assert (await moment(stream.kafka, stream.topics, terms(stream), clock_ms())).numbers
