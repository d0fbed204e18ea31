"""The worker's settings."""

import os
import socket
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from streamgauge.settings import PREFIX, GroupName, Port, ServiceSettings

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Salt = Annotated[str, StringConstraints(pattern=r"^[!-~]{0,64}$")]
"""As long as a key of BLAKE2b may be."""


def _instance() -> str:
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Where a container finds its quota (cgroup v2)."""


def allowed_cores(cpu_max: Path = CPU_MAX) -> float:
    """What this process may use: cores by affinity, or a container's quota, which need not be whole."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except OSError:
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def usable_cores(cpu_max: Path = CPU_MAX) -> int:
    """The whole ones of the cores that this process may use, at least one."""
    return max(1, int(allowed_cores(cpu_max)))


PROFILES: dict[str, dict[str, Any]] = {
    "throughput": {},
    "latency": {"max_batch_tokens": 256, "commit_interval_s": 0.005, "commit_cpu_share": 0.5},
}
"""Defaults that go together; what is set by name counts more."""


class WorkerSettings(ServiceSettings):
    """Text in, results out."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WORKER_", protected_namespaces=())

    http_port: Port = Field(8001, description="of /metrics, /livez and /readyz; 0: a free one")
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
    stall_timeout_s: Seconds = Field(60, description="no commit for so long despite lag: not alive; twice: exit 1")
    max_failed_share: float = Field(
        0.5, gt=0, le=1, description="of the last brake_records, that the model failed on; above: exit 1"
    )
    brake_records: int = Field(
        1000, ge=1, description="records given to the model, that the share of failures is taken of"
    )

    audit_share: float = Field(
        0.01, ge=0, le=1, description="of the predictions, chosen by chance, that are to be labelled; 0: none"
    )
    audit_salt: Salt = Field("", description="who knows it, and chooses ids, chooses what is in the audit")

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, given: dict[str, Any]) -> dict[str, Any]:
        return PROFILES.get(str(given.get("profile")), {}) | given


def most_memory_bytes(settings: WorkerSettings, partitions: int, max_message_bytes: int) -> int:
    """What a worker takes in the worst case, when it holds so many partitions: ARCHITECTURE's limit. Measured in
    tests/faults/test_memory.py, where outputs are stalled and records as large as they may be.
    """
    held_bytes = 5 * settings.max_bytes + 5 * partitions * max_message_bytes + 35 * max_message_bytes
    return 240_000_000 + held_bytes + 45_000_000 * settings.model_slots
