"""What the listener can be told."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from feedback_listener.audit import LOOK_BACK_MINUTES, Terms
from feedback_listener.evidence import threshold_log10
from feedback_listener.tally import MINUTE_MS
from streamgauge.errors import ConfigurationError
from streamgauge.settings import DAY_MS, PREFIX, Port, ServiceSettings

HOUR_MS = 3_600_000


class Shard(NamedTuple):
    """One of `of` listeners that share the results partitions; `number` counts from 0."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: object) -> "Shard":
        """From `0/3`. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", str(text))
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or shard.number >= shard.of:
            raise ValueError(
                "must be NUMBER/OF such as 0/3: the number counts from 0 and is less than how many there are"
            )
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def owns(self, partition: int) -> bool:
        return partition % self.of == self.number


class ListenerSettings(ServiceSettings):
    """Where the listener keeps its cache, what it reads, what its alarms go by, and where it serves its numbers."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LISTENER_")

    http_port: Port = Field(8002, description="of /metrics, /livez and /readyz; 0: a free one")
    store: Path | None = Field(
        None, description="file of the cache, one a listener; unset: one in the user's cache folder"
    )
    shard: Annotated[Shard, NoDecode, BeforeValidator(Shard.parse)] = Field(
        Shard(0, 1), description="0/3, 1/3 and 2/3 share the results partitions; two of the same are copies"
    )

    audit_horizon_hours: float = Field(
        1, gt=0, le=168, description="labels of audited predictions that come later set off no alarm"
    )
    accuracy_floor: float = Field(0.8, gt=0, lt=1, description="the accuracy below which there is to be an alarm")
    false_alarm_days: float = Field(
        365, ge=1, le=36_500, description="mean time between false alarms on accuracy, of each model and question"
    )

    def terms(self, window_ms: int) -> Terms:
        """What the audit's intervals and alarms go by; `window_ms`: how long predictions are retained.

        Raises ConfigurationError when that is too short for the horizon, or too long for the rate of false alarms.
        """
        maturity_ms = round(self.audit_horizon_hours * HOUR_MS)
        if maturity_ms > window_ms / 2:
            raise ConfigurationError(
                f"{PREFIX}LISTENER_AUDIT_HORIZON_HOURS must be at most half of {PREFIX}TOPIC_JOIN_WINDOW_DAYS: "
                "a minute that leaves the window before it matures sets off no alarm"
            )
        if self.false_alarm_days * DAY_MS < 2 * min(window_ms, LOOK_BACK_MINUTES * MINUTE_MS):
            raise ConfigurationError(
                f"{PREFIX}LISTENER_FALSE_ALARM_DAYS must be at least twice {PREFIX}TOPIC_JOIN_WINDOW_DAYS, or 60: "
                "the evidence of no label at all would be an alarm"
            )
        return Terms(window_ms, maturity_ms, self.accuracy_floor, threshold_log10(self.false_alarm_days))

    def store_path(self, prefix: str) -> Path:
        """Where the store is: as set, or by the topics' prefix and the shard in the user's cache folder."""
        name = f"{prefix}-listener-{self.shard.number}-of-{self.shard.of}.sqlite"
        return self.store or user_cache_path("streamgauge") / name
