#!/usr/bin/python3
"""Start Apache Kafka as its official image does: `KAFKA_NODE_ID` in the environment is `node.id` in its settings."""

import os
import subprocess
from pathlib import Path

NOT_SETTINGS = {"KAFKA_HEAP_OPTS"}
QUIET = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
CONFIG = Path("/opt/kafka/config/server.properties")

settings = {
    name.removeprefix("KAFKA_").lower().replace("_", "."): value
    for name, value in os.environ.items()
    if name.startswith("KAFKA_") and name not in NOT_SETTINGS
}
CONFIG.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
heap = os.environ.get("KAFKA_HEAP_OPTS", "-Xmx256m").split()
java = ["/opt/java/bin/java", *heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *QUIET, "-cp", "/opt/kafka/libs/*"]
cluster = os.environ["CLUSTER_ID"]
format_storage = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(CONFIG)]
subprocess.run([*java, *format_storage], check=True)
os.execv(java[0], [*java, "kafka.Kafka", str(CONFIG)])
