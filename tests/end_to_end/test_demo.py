"""The demo as a newcomer runs it: its numbers are those in the topics."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from feedback_listener.settings import ListenerSettings
from producer.corpus import Sample, bundled
from streamgauge.commands.demo import Demo, DemoOptions, labelled_texts
from streamgauge.commands.demo_view import Tally
from streamgauge.commands.top.screen import Screen
from streamgauge.errors import ConfigurationError
from streamgauge.events import decode_feedback, decode_prediction
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.cluster import Kafka, Stream
from tests.end_to_end.test_commands import run
from worker.model.session import OnnxModel
from worker.settings import WorkerSettings

CLASSES = ("NEGATIVE", "POSITIVE")
pytestmark = pytest.mark.timeout(600)
FREE_PORTS = os.environ | {"STREAMGAUGE_APP_HTTP_PORT": "0"}
SILENT = Screen(Console(quiet=True), "", "", is_whole=False)
FIELDS = [
    "published",
    "results",
    "dead_letters",
    "labels",
    "unknown_class",
    "invented_wrong",
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
    options = DemoOptions(None, 200, None, None, None, 0, as_json=False)
    model = OnnxModel.load(WorkerSettings().model_dir, 512)
    samples = [*bundled()[:400], Sample("x" * 200_000, "POSITIVE")]
    listening = ListenerSettings(store=tmp_path / "listener.sqlite")
    demo = Demo(kafka.bootstrap_servers, options, listening, tally, SILENT, None)
    await demo.run(model, samples, asyncio.Event())

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
    label_of = {sample.text.encode(): sample.label for sample in samples}
    truth = {
        f"demo/{dict(record.headers)['ce_id'].decode()}": label_of[record.value]
        for record in await stream.read([topics.input])
    }
    labels = [decode_feedback(record.value) for record in feedback]
    assert summary["invented_wrong"] == sum(one.label != truth[one.id] for one in labels) > 0
    assert last == {message_id: label for message_id, label in truth.items() if label}
    assert (summary["judged"], summary["accuracy"]) == (len(judged), sum(judged) / len(judged))


def test_the_command_ends_with_one_json_object(tmp_path: Path) -> None:
    """In a pipe: plain lines, then the summary, and nothing is left running."""
    (tmp_path / "texts.csv").write_text("text,label\n" + "a fine film,positive\nawful,negative\n" * 20)
    ended = subprocess.run(
        [sys.executable, "-m", "streamgauge", "demo", "--json", "--duration", "600", "--rate", "40",
         "--http-port", "0", "--input", str(tmp_path / "texts.csv")],
        capture_output=True, text=True, check=True, env=FREE_PORTS,
    )  # fmt: skip
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert list(summary) == FIELDS
    assert summary["published"] == summary["results"] == 40
    assert 0 < summary["judged"] <= 40
    assert summary["unknown_class"] == 0
    assert "texts/s" in ended.stdout
    assert "the web page: http://localhost:" in ended.stdout
    assert "that is invented, to show corrections" in ended.stdout
    assert "91.7 %" not in ended.stdout  # the texts are the user's own


@pytest.mark.parametrize(
    ("arguments", "environment", "why"),
    [
        (["--http-port", "taken"], {}, "has this port; --http-port 0 takes a free one"),
        (["--http-port", "0"], {"STREAMGAUGE_APP_HTTP_PORT": "taken"}, "cannot serve the page on 127.0.0.1:"),
        (["--input", "/nowhere.csv"], {}, "/nowhere.csv: No such file"),
        (["--rate", "inf"], {}, "a rate must be more than 0"),
        ([], {"STREAMGAUGE_LISTENER_ACCURACY_FLOOR": "2"}, "STREAMGAUGE_LISTENER_ACCURACY_FLOOR: Input should be less"),
        ([], {"STREAMGAUGE_TOPIC_PREFIX": "a/b"}, "STREAMGAUGE_TOPIC_PREFIX: "),
        ([], {"STREAMGAUGE_WORKER_MODEL_DIR": "/nowhere"}, "cannot read /nowhere/config.json"),
    ],
)
def test_what_is_wrong_is_said_before_kafka_starts(arguments: list[str], environment: dict[str, str], why: str) -> None:
    """Options, files and settings, and a port that others hold."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = str(holder.getsockname()[1])
        given = [taken if one == "taken" else one for one in arguments]
        ended = run("demo", *given, **{name: taken if one == "taken" else one for name, one in environment.items()})
    assert ended.returncode in {1, 2}
    assert (ended.stdout, why in ended.stderr) == ("", True), ended.stderr


@pytest.mark.parametrize(
    ("labels", "label_map", "expected"),
    [
        ((1, 0), None, "POSITIVE NEGATIVE"),
        (("LABEL_1", "LABEL_0"), None, "POSITIVE NEGATIVE"),
        (("1.0", "0.0"), None, "POSITIVE NEGATIVE"),
        (("positive", "Negative"), None, "POSITIVE NEGATIVE"),
        ((4, 0), None, "4 (1), 0 (1)"),
        ((2, 1), None, "2 (1), 1 (1)"),
        ((1, -1), None, "1 (1), -1 (1)"),
        ((5, 3), None, "5 (1), 3 (1)"),
        ((5, 3), "5=positive,3=", "POSITIVE None"),
    ],
)
def test_labels_are_the_models_or_are_refused(
    tmp_path: Path, labels: tuple[object, object], label_map: str | None, expected: str
) -> None:
    """Before Kafka starts each label is a class of the model, or is refused by name."""
    path = tmp_path / "texts.csv"
    path.write_text(f"text,label\na fine film,{labels[0]}\nawful,{labels[1]}\n")
    options = DemoOptions(None, 1, path, label_map, None, 0, as_json=False)
    if "(" in expected:
        with pytest.raises(ConfigurationError, match=re.escape(f"(NEGATIVE, POSITIVE): {expected}; nothing was done")):
            labelled_texts(options, CLASSES)
    else:
        assert " ".join(str(one.label) for one in labelled_texts(options, CLASSES)) == expected


def test_ctrl_c_ends_the_demo_cleanly() -> None:
    """SIGINT to the whole foreground group, as a terminal sends it: the summary comes, and exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "demo", "--json", "--http-port", "0", "--rate", "20"],
        stdout=subprocess.PIPE, text=True, start_new_session=True, env=FREE_PORTS,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if "results 2" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate()[0]
    assert process.returncode == 0
    summary = json.loads(rest.splitlines()[-1])
    assert summary["published"] == summary["results"] > 20
