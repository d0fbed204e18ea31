"""What the services of Streamgauge share: events, Kafka, topics, settings, telemetry, the embedded broker."""

from importlib.metadata import version

__version__ = version("streamgauge")
