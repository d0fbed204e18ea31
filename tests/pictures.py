"""A picture of a stack for tests of how it is shown: two workers, of which one has no URL, and one that has gone."""

from feedback_listener.confidence_sequence import Interval
from feedback_listener.moment import Share
from streamgauge.commands.top.accuracy import Accuracy
from streamgauge.commands.top.picture import COLUMNS, Lag, Picture, Said
from streamgauge.commands.top.replicas import GONE, MEMBER, READY, ListenerRow, WorkerRow

MODEL = "distilbert-sst2-compact@2.0.0"
HISTORY: list[float | None] = [None] * (COLUMNS - 120) + [50.0 + number % 7 for number in range(120)]
WORKERS = [
    WorkerRow("host-a-1f2e3d", READY, [0, 1], 25.1, HISTORY[-30:], 0.170, 12, 241e6, 0.2),
    WorkerRow("host-b-4a5b6c", MEMBER, [2], 24.2, HISTORY[-30:], 0.182, None, None, 0.3),
    WorkerRow("host-c-with-a-name-that-never-ends-7d8e9f", GONE, None, 0.0, HISTORY[-30:], None, None, None, 42),
]
PICTURE = Picture(
    records_per_s=49.3,
    p50_s=0.061,
    p99_s=0.182,
    dead_letters=3,
    rates=HISTORY,
    p99s_s=HISTORY,
    lags=HISTORY,
    lag=Lag(1234, [3], 1.25),
    accuracies=[
        Accuracy(
            MODEL,
            labels=Share(1030, 1234),
            recent=Share(50, 60),
            audit=Share(230, 250),
            matured=Share(221, 240),
            chosen=260,
            sequence=Interval(0.88, 0.964),
        )
    ],
    workers=WORKERS,
    listeners=[ListenerRow("http://localhost:8002", [0, 1, 2, 3], 1234)],
    said=[
        Said("what a lovely film, " + "and long " * 40, "POSITIVE", 0.98),
        Said("日本語のとても良い映画です", "NEGATIVE", 0.61),
        Said(None, "POSITIVE", 0.7),
    ],
    problems=["worker http://b:8001: no worker answers: Connection refused"],
    counts={"published": 700},
)
NOTHING_KNOWN = Picture(
    records_per_s=None,
    p50_s=None,
    p99_s=None,
    dead_letters=None,
    rates=[],
    p99s_s=[],
    lags=[None] * COLUMNS,
    lag=Lag(None, [], None),
    accuracies=[],
    workers=[],
    listeners=[],
    said=None,
    problems=[],
    counts={},
)
