"""What workers and listeners show by HTTP, each answer within CALL_S."""

import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from streamgauge.commands.doctor.collecting import CALL_S
from streamgauge.commands.doctor.picture import Answer, Sample

SIGNS = {"worker": "streamgauge_worker_ready", "listener": "streamgauge_listener_ready"}
"""What a service shows that no other does."""


class Heard(NamedTuple):
    """An answer, and by how much its clock differs from ours at least."""

    text: str
    skew_s: float | None


def session() -> aiohttp.ClientSession:
    """For all questions."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_S))


async def hear(http: aiohttp.ClientSession, url: str, **parameters: str) -> Heard:
    """Raises aiohttp's errors, TimeoutError."""
    before_s = time.time()
    async with http.get(url, params=parameters) as response:
        text = await response.text()
        return Heard(text, clock_skew_s(response.headers.get("Date"), before_s, time.time()))


def clock_skew_s(date: str | None, before_s: float, after_s: float) -> float | None:
    """From a Date header, which has whole seconds, and the times of the question and of the answer: how much the other
    clock is ahead at least (negative: behind). None when the header is not there, or is no date.
    """
    try:
        theirs_s = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    return max(theirs_s - after_s, min(0.0, theirs_s + 1 - before_s))


async def ask_service(http: aiohttp.ClientSession, service: str, url: str) -> Answer | None:
    """None when nobody is there."""
    try:
        heard = await hear(http, f"{url.rstrip('/')}/metrics")
    except aiohttp.ClientConnectorError:
        return None
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return Answer(service, url, None)
    samples = samples_of(heard.text)
    if not any(sample.name == SIGNS[service] for sample in samples):
        return Answer(service, url, None)
    return Answer(service, url, samples, heard.skew_s)


def samples_of(text: str) -> tuple[Sample, ...]:
    """Of a scrape; none when it is something else."""
    try:
        return tuple(
            Sample(each.name, each.labels, each.value)
            for family in text_string_to_metric_families(text)
            for each in family.samples
        )
    except ValueError:
        return ()
