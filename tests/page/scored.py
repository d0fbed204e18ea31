"""Texts that a worker has scored and somebody has labelled, so that there is something to watch."""

from streamgauge.events import decode_prediction
from tests.audited import label
from tests.cluster import Stream
from tests.oracle import Input

EVIL = "**bold** <script>alert(1)</script> [a](https://example.org) :red[x] $x$ \x1b[2J"


async def scored_and_labelled(stream: Stream, right: int, wrong: int) -> None:
    """So many texts, all of which the worker has scored and somebody has labelled; one text is more than words."""
    count = right + wrong
    await stream.publish(
        [Input(EVIL.encode(), 0), *(Input(f"text {number}".encode(), 0) for number in range(count - 1))]
    )
    records = await stream.read([stream.topics.results], at_least=count)
    results = [decode_prediction(record.value) for record in records]
    other = {"POSITIVE": "NEGATIVE", "NEGATIVE": "POSITIVE"}
    given = [(one.id, one.label if number < right else other[one.label]) for number, one in enumerate(results)]
    await label(stream, *given)
