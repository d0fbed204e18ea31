"""The worker's settings."""

import os
import socket
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from streamgauge.settings import PREFIX, GroupName, Port, ServiceSettings

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _instance() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"


def usable_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process may use: by affinity, and whole ones of a container's quota (cgroup v2)."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except OSError:
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


PROFILES: dict[str, dict[str, Any]] = {
    "throughput": {},
    "latency": {"max_batch_tokens": 256, "commit_interval_s": 0.005, "commit_cpu_share": 0.5},
}
"""Defaults that go together; what is set by name counts more."""


class WorkerSettings(ServiceSettings):
    """Text in, results out."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WORKER_", protected_namespaces=())

    http_port: Port = 8001
    group: GroupName = Field("streamgauge", description="consumer group; its offsets say what is done")
    instance: GroupName = Field(default_factory=_instance, description="this replica's name, unique in its group")
    start_from: Literal["earliest", "latest"] | None = Field(
        None, description="where a group without committed offsets starts; unset: refuse to start"
    )
    profile: Literal["throughput", "latency"] = Field(
        "throughput", description="latency: small batches, committed at once, for more CPU a text"
    )
    model_dir: Path = Field(Path(__file__).parent / "default_model", description="model.onnx, tokenizer.json, …")
    model_slots: int = Field(
        default_factory=lambda: min(8, usable_cores()), ge=1, le=64, description="batches inferred at once"
    )
    max_tokens: int = Field(512, ge=8, le=512, description="longer texts are truncated and flagged")
    max_batch_tokens: int = Field(512, ge=8, le=65536, description="padded cost of a batch: longest x count")
    max_text_bytes: int = Field(131_072, ge=1, description="larger texts become dead letters")
    max_records: int = Field(4096, ge=1, description="records held at most, from fetch to commit")
    max_bytes: int = Field(32 * 2**20, ge=2**20, description="memory that records hold at most, from fetch to commit")
    commit_interval_s: Seconds = Field(0.1, description="least time between transactions of a partition")
    commit_cpu_share: float = Field(
        0.05, gt=0, le=1, description="of a core, that transactions take at most: with more partitions they are fewer"
    )
    commit_records: int = Field(500, ge=1, description="so many finished records commit without waiting")
    transaction_timeout_s: float = Field(
        10, gt=0, le=600, description="a transaction that takes longer is given up and redone"
    )
    session_timeout_s: Seconds = Field(10, description="a replica silent for so long loses its partitions")
    drain_budget_s: Seconds = Field(8, description="for finishing what is in the model when partitions are taken away")
    stall_timeout_s: Seconds = Field(60, description="nothing moves for so long despite lag: not alive; twice: exit 1")
    max_failed_share: float = Field(
        0.5, gt=0, le=1, description="of the last brake_records, that the model failed on; above: exit 1"
    )
    brake_records: int = Field(
        1000, ge=1, description="records given to the model, that the share of failures is taken of"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, given: dict[str, Any]) -> dict[str, Any]:
        return PROFILES.get(str(given.get("profile")), {}) | given
