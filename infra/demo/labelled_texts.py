"""Labelled texts at a steady rate, so that every panel moves: what `--profile demo` runs, as any client would.

    python labelled_texts.py SAMPLE.tsv RATE

The sample has the columns text and label; Kafka is found as the services find it. A text's label follows within ten
seconds; one in twenty is wrong at first and corrected later, and one record in 500 cannot be scored.
"""

import asyncio
import csv
import itertools
import json
import os
import random
import signal
import sys
import uuid
from pathlib import Path

from aiokafka import AIOKafkaProducer

SERVERS = os.environ["STREAMGAUGE_KAFKA_BOOTSTRAP_SERVERS"]
PREFIX = os.environ.get("STREAMGAUGE_TOPIC_PREFIX", "sentiment")
OTHER = {"POSITIVE": "NEGATIVE", "NEGATIVE": "POSITIVE"}
MAX_DELAY_S = 10
WRONG_AT_FIRST = 0.05
UNSCORABLE_EVERY = 500


async def label(producer: AIOKafkaProducer, text_id: str, right: str) -> None:
    """Send the label of a text that was published just now, some time later."""
    labels = [OTHER[right], right] if random.random() < WRONG_AT_FIRST else [right]
    for value in labels:
        await asyncio.sleep(random.uniform(0, MAX_DELAY_S / 2))
        message = json.dumps({"id": text_id, "label": value, "source": "demo"})
        await producer.send(f"{PREFIX}.feedback", message.encode(), key=text_id.encode())


async def publish(samples: list[dict[str, str]], rate_per_s: float) -> None:
    """Publish the samples again and again, until cancelled."""
    async with AIOKafkaProducer(bootstrap_servers=SERVERS, linger_ms=20) as producer, asyncio.TaskGroup() as labelling:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for number, sample in enumerate(itertools.cycle(samples)):
            text_id = f"demo-{uuid.uuid4()}"
            message = json.dumps({"id": text_id, "text": sample["text"]})
            if number % UNSCORABLE_EVERY == UNSCORABLE_EVERY - 1:
                message = message.removesuffix("}")
            await producer.send(f"{PREFIX}.input", message.encode())
            if sample["label"] in OTHER:
                labelling.create_task(label(producer, text_id, sample["label"]))
            await asyncio.sleep(started_s + (number + 1) / rate_per_s - loop.time())


async def main(sample: Path, rate_per_s: float) -> None:
    """Publish until SIGTERM or SIGINT."""
    with sample.open(encoding="utf-8", newline="") as lines:
        samples = list(csv.DictReader(lines, delimiter="\t"))
    publishing = asyncio.ensure_future(publish(samples, rate_per_s))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, publishing.cancel)
    await asyncio.wait([publishing])
    if not publishing.cancelled():
        publishing.result()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
