"""`streamgauge reconcile`: are the numbers that listeners show those that follow from the topics?"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

import aiohttp
from aiokafka.structs import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from feedback_listener.audit import Terms
from feedback_listener.audit_metrics import CLAIMS, COUNTED, MATURED, STANDING
from feedback_listener.join import WINDOWS
from feedback_listener.records import Stream
from feedback_listener.recount import recount
from feedback_listener.recount_reading import matters_since_ms, records_before
from feedback_listener.recount_records import Series, Values, series_of
from streamgauge.errors import StreamgaugeError
from streamgauge.kafka import admin_client
from streamgauge.provisioning import check_exist
from streamgauge.settings import KafkaSettings, TopicSettings
from streamgauge.terminal import cell
from streamgauge.topic_reading import topic_reader

SCRAPE_TIMEOUT_S = 30
RECOUNTED = (
    "predictions",
    "judged_predictions",
    "prediction_labels",
    "calibration_bin_predictions",
    "calibration_bin_confidences",
    "calibration_bin_correct",
    "brier_scores",
    "label_delay_seconds_bucket",
    "label_delay_seconds_gcount",
    "label_delay_seconds_gsum",
    "estimated_correct",
    "labels",
    "matched_labels",
    *(f"{stream}_refused" for stream in Stream),
    *(f"audit_{name}" for name in (*COUNTED, *MATURED, *STANDING, *CLAIMS)),
)
SETTINGS = ("listener_time_seconds", "audit_horizon_seconds", "audit_accuracy_floor")
JUDGED = "label_delay_seconds_gcount"
ROUNDING = {
    "calibration_bin_confidences": (2e-6, JUDGED),
    "brier_scores": (1e-5, JUDGED),
    "label_delay_seconds_gsum": (1e-3, JUDGED),
    "estimated_correct": (2e-6, "predictions"),
    "audit_drift_evidence_log10": (2e-6, "audit_predictions"),
}
"""What one prediction may differ by, and how many they are: the listener counts probabilities in 2^-20, delays in
2^-10 s.
"""
NEARLY = 1e-9
"""What a computed number may differ by: sums of fractions depend on their order."""


class Scraped(NamedTuple):
    """What a listener shows: of which moment, up to which offsets, and the numbers that are not zero."""

    url: str
    now_ms: int
    positions: dict[TopicPartition, int]
    numbers: Values
    maturity_ms: int
    floor: float
    """Settings of the listener that its numbers depend on."""


class Difference(NamedTuple):
    """One series that is not what it must be; `shown` by `listener`, `recounted` from the topics."""

    listener: str
    series: str
    shown: float
    recounted: float


def read_metrics(url: str, text: str) -> Scraped:
    """Parse what a listener serves. Raises StreamgaugeError when it is no listener, or one that has not caught up."""
    samples: Values = {
        (found.name, tuple(sorted(found.labels.items()))): found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
    }
    if series_of("streamgauge_listener_time_seconds") not in samples:
        raise StreamgaugeError(f"{url}: not a listener")
    if not samples[series_of("streamgauge_listener_ready")]:
        raise StreamgaugeError(f"{url}: not ready, so it shows no numbers; its /readyz says why")
    positions = {
        TopicPartition(dict(labels)["topic"], int(dict(labels)["partition"])): int(value)
        for (name, labels), value in samples.items()
        if name == "streamgauge_listener_position"
    }
    names = {f"streamgauge_{name}" for name in RECOUNTED}
    numbers = {key: value for key, value in samples.items() if key[0] in names and value}
    time_s, horizon_s, floor = (samples[series_of(f"streamgauge_{name}")] for name in SETTINGS)
    return Scraped(url, round(time_s * 1000), positions, numbers, round(horizon_s * 1000), floor)


def differences(scraped: Scraped, recounted: Values) -> list[Difference]:
    """The series in which the two are not equal; sums of fractions, but for the rounding of what they add up."""
    found = []
    for series in sorted(scraped.numbers.keys() | recounted.keys()):
        pair = scraped.numbers.get(series, 0), recounted.get(series, 0)
        if abs(pair[0] - pair[1]) > _tolerance(series, recounted):
            name, labels = series
            text = name + "{" + ", ".join(f'{key}="{value}"' for key, value in labels) + "}"
            found.append(Difference(scraped.url, text, *pair))
    return found


def _tolerance(series: Series, recounted: Values) -> float:
    name, labels = series
    rounding, counted = ROUNDING.get(name.removeprefix("streamgauge_"), (0, JUDGED))
    of = {key: value for key, value in labels if key in ("model", "partition", "window")}
    if counted == "audit_predictions":
        of["window"] = WINDOWS[-1]
    return NEARLY + rounding * recounted.get(series_of(f"streamgauge_{counted}", **of), 0)


async def reconcile(
    kafka: KafkaSettings, topics: TopicSettings, urls: Sequence[str]
) -> AsyncIterator[tuple[Scraped, Values]]:
    """For each listener, what it shows and what follows from the topics at the same offsets and the same now.

    All records of the window are held in memory, some 500 bytes each. Raises StreamgaugeError when a listener cannot
    be asked, or when they do not read all partitions together.
    """
    window_ms = topics.join_window_ms
    all_shown = [read_metrics(url, await scrape(url)) for url in urls]
    await _check_coverage(kafka, topics, all_shown)
    for scraped in all_shown:
        since_ms = matters_since_ms(scraped.now_ms, window_ms)
        async with topic_reader(kafka) as consumer:
            records = await records_before(kafka, consumer, topics, scraped.positions, since_ms)
        terms = Terms(window_ms, scraped.maturity_ms, scraped.floor, 0)
        yield scraped, recount(records, scraped.now_ms, terms)


async def _check_coverage(kafka: KafkaSettings, topics: TopicSettings, all_shown: Sequence[Scraped]) -> None:
    """Each listener reads all of feedback and audit, all together read all results; and nobody is beyond an end."""
    async with admin_client(kafka) as admin:
        found = await check_exist(admin, topics.joined, "Read")
    expected = {name: {TopicPartition(name, n) for n in range(count)} for name, count in found.items()}
    missing = expected[topics.results].difference(*(scraped.positions for scraped in all_shown))
    for scraped in all_shown:
        missing |= (expected[topics.feedback] | expected[topics.audit]) - scraped.positions.keys()
    if missing:
        names = ", ".join(sorted(f"{tp.topic}-{tp.partition}" for tp in missing))
        raise StreamgaugeError(f"no listener given reads {names}; give all shards")
    async with topic_reader(kafka) as consumer:
        for scraped in all_shown:
            ends = await consumer.end_offsets(list(scraped.positions))
            if any(offset > ends[tp] for tp, offset in scraped.positions.items()):
                raise StreamgaugeError(f"{scraped.url}: is beyond the end of its topics; were they made again?")


async def scrape(url: str) -> str:
    """What a listener serves to Prometheus. Raises StreamgaugeError when nobody answers."""
    url = url if "://" in url else f"http://{url}"
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{url.rstrip('/')}/metrics") as answer:
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StreamgaugeError(f"{url}: no listener answers: {error or 'timed out'}") from None


async def report(kafka: KafkaSettings, topics: TopicSettings, urls: Sequence[str], *, as_json: bool) -> bool:
    """Compare, and print the outcome as a table or as one JSON object; whether all numbers are equal."""
    listeners, found = [], []
    async for scraped, recounted in reconcile(kafka, topics, urls):
        wrong = differences(scraped, recounted)
        found += wrong
        listeners.append(
            {
                "listener": scraped.url,
                "now_ms": scraped.now_ms,
                "positions": {f"{tp.topic}-{tp.partition}": offset for tp, offset in sorted(scraped.positions.items())},
                "series": len(scraped.numbers.keys() | recounted.keys()),
                "differences": len(wrong),
            }
        )
    if as_json:
        print(json.dumps({"listeners": listeners, "differences": [wrong._asdict() for wrong in found]}))  # noqa: T201
    else:
        _print(listeners, found)
    return not found


def _print(listeners: Iterable[Mapping[str, object]], found: Sequence[Difference]) -> None:
    console = Console(soft_wrap=True)
    for listener in listeners:
        verdict = f"{listener['differences']} differ" if listener["differences"] else "all equal"
        console.print(cell(f"{listener['listener']}: {listener['series']} series recounted from the topics, {verdict}"))
    if found:
        table = Table("listener", "series", "shown", "recounted")
        for wrong in found:
            table.add_row(cell(wrong.listener), cell(wrong.series), f"{wrong.shown:g}", f"{wrong.recounted:g}")
        console.print(table)
