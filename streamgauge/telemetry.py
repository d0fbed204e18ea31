"""Logs of a service, and its registry of metrics."""

import logging
import sys
from collections.abc import Callable
from typing import TextIO

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Gauge, Info, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

import streamgauge
from streamgauge.log_folding import FoldingHandler
from streamgauge.settings import LogSettings

log = structlog.get_logger(__name__)

FOLLOWING = ("Marking the coordinator dead ", "Heartbeat send request failed: ")
"""What aiokafka says beside a line that says why."""
OURS = ("streamgauge", "worker", "producer", "feedback_listener")


def set_up_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """One event a line on standard error: readable on a terminal, JSON elsewhere. Repetitions are folded, but at debug.

    Libraries' logs go the same way, from warnings up only: their debug lines would hold users' texts.
    """
    stream = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream) if settings.level == "debug" else FoldingHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(_worth_reading)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for package in OURS:
        logging.getLogger(package).setLevel(settings.level.upper())


def _worth_reading(record: logging.LogRecord) -> bool:
    """Leaves out what is normal for Kafka's client.

    A broker that has just started answers a group's first request with GroupCoordinatorNotAvailable. And a fenced
    producer leaves failed futures behind, which asyncio reports when they are collected. Why a connection fails,
    kafka.unreachable and kafka.connection_lost say; what could not be sent or learnt for want of one follows from that.
    A sender that ends without a transaction fails on noting that it has none; whoever sends is told why it ended.
    """
    message = record.getMessage()
    if record.name.startswith("aiokafka") and (
        "NodeNotReadyError" in message or message.startswith(("Unable connect to ", "Unable to update metadata from "))
    ):
        return False
    if record.name == "aiokafka.consumer.group_coordinator" and message.startswith(FOLLOWING):
        return False
    if record.name == "aiokafka" and message.startswith('Unable to request metadata from "'):
        return False
    if record.name == "asyncio" and "Sender._fail_all" in message:
        return False
    left_behind = record.name == "asyncio" and record.exc_info and isinstance(record.exc_info[1], KafkaError)
    return not (
        left_behind or (record.name.startswith("aiokafka.consumer") and "GroupCoordinatorNotAvailable" in message)
    )


def service_registry(is_refused: Callable[[], bool] = lambda: False) -> CollectorRegistry:
    """A registry that already tells of the process: memory, CPU, garbage collector, version, and its login at Kafka."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nothing here reads
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Info("streamgauge_build", "Version of Streamgauge.", registry=registry).info({"version": streamgauge.__version__})
    refused = Gauge(
        "streamgauge_kafka_refused", "1 while Kafka lets this process not in: see /readyz.", registry=registry
    )
    refused.set_function(is_refused)
    return registry
