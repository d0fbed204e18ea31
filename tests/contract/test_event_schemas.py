"""What stands in the topics of a real run is what the AsyncAPI document says."""

from collections import Counter

from producer.corpus import Sample
from producer.publish import Publisher
from streamgauge.events import Feedback
from tests.cluster import Kafka, Stream
from tests.contract.test_worker import working
from tests.described import check_described
from tests.oracle import generate


async def test_every_record_of_a_run_is_described(kafka: Kafka) -> None:
    """Texts good and bad, their results and dead letters, the metric events, and labels."""
    stream = await Stream.create(kafka.bootstrap_servers, partitions=1)
    await stream.publish(generate(200, seed=3))
    async with Publisher(stream.kafka, stream.topics) as publisher:
        ids = [await publisher.text(Sample(text)) for text in ("a fine film", "{a brace")]
        for each in ids:
            await publisher.feedback(Feedback(id=each, label="POSITIVE", source="anna"))
    async with working(stream):
        await stream.read(at_least=202)
    described = Counter(
        check_described(record.topic.removeprefix(f"{stream.topics.prefix}."), record.key, record.value, record.headers)
        for record in await stream.read(stream.topics.every)
        # What the generator sends has no headers, and may be anything.
        if record.topic != stream.topics.input or record.headers
    )
    assert described.keys() == {"plainText", "jsonText", "prediction", "transaction", "deadLetter", "feedback"}
