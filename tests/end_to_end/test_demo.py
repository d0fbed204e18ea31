"""The demo as a newcomer runs it: its numbers are those in the topics."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from feedback_listener.settings import ListenerSettings
from producer.corpus import Sample, bundled
from streamgauge.commands.demo import Demo, DemoOptions
from streamgauge.commands.demo_view import Tally, View
from streamgauge.events import decode_feedback, decode_prediction
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.cluster import Kafka, Stream

FIELDS = [
    "published",
    "results",
    "dead_letters",
    "labels",
    "judged",
    "accuracy",
    "texts_per_s",
    "latency_p50_s",
    "latency_p99_s",
]


async def test_the_numbers_are_those_in_the_topics(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Published, results, dead letters, labels, judged and accuracy equal what a reader of the topics computes."""
    monkeypatch.setenv("STREAMGAUGE_TOPIC_PREFIX", "demo")
    monkeypatch.setenv("STREAMGAUGE_WORKER_GROUP", "demo")
    tally = Tally()
    options = DemoOptions(None, 200, None, None, 0, as_json=False)
    samples = [*bundled()[:400], Sample("x" * 200_000, "POSITIVE")]
    listening = ListenerSettings(store=tmp_path / "listener.sqlite")
    demo = Demo(kafka.bootstrap_servers, options, listening, tally, View(Console(quiet=True), ""))
    await demo.run(samples, asyncio.Event())

    topics = TopicSettings(prefix="demo")
    stream = Stream(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), topics, "demo", 4)
    predictions = [decode_prediction(record.value) for record in await stream.read([topics.results])]
    feedback = sorted(await stream.read([topics.feedback]), key=lambda record: (record.timestamp, record.offset))
    last = {label.id: label.label for label in (decode_feedback(record.value) for record in feedback)}
    judged = [prediction.label == last[prediction.id] for prediction in predictions if prediction.id in last]
    summary = tally.summary()
    assert summary["published"] == len(await stream.read([topics.input])) == 401
    assert summary["results"] == len(predictions) == 400
    assert summary["dead_letters"] == len(await stream.read([topics.dead_letter])) == 1
    assert summary["labels"] == len(feedback) > len(last)
    assert (summary["judged"], summary["accuracy"]) == (len(judged), sum(judged) / len(judged))


def test_the_command_ends_with_one_json_object(tmp_path: Path) -> None:
    """In a pipe: plain lines, then the summary, and nothing is left running."""
    (tmp_path / "texts.csv").write_text("text,label\n" + "a fine film,positive\nawful,negative\n" * 20)
    ended = subprocess.run(
        [sys.executable, "-m", "streamgauge", "demo", "--json", "--duration", "60", "--rate", "40",
         "--http-port", "0", "--input", str(tmp_path / "texts.csv")],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert list(summary) == FIELDS
    assert summary["published"] == summary["results"] == 40
    assert 0 < summary["judged"] <= 40
    assert "texts/s" in ended.stdout


def test_ctrl_c_ends_the_demo_cleanly() -> None:
    """SIGINT to the whole foreground group, as a terminal sends it: the summary comes, and exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "demo", "--json", "--http-port", "0", "--rate", "20"],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if "results 2" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    summary = json.loads(rest.splitlines()[-1])
    assert summary["published"] == summary["results"] > 20
