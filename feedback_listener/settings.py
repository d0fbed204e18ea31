"""What the listener can be told."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

from platformdirs import user_cache_path
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from streamgauge.settings import PREFIX, Port, ServiceSettings


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
    """Where the listener keeps its cache, its share of the results partitions, and where it serves its numbers."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LISTENER_")

    http_port: Port = 8002
    store: Path | None = Field(
        None, description="file of the cache, one a listener; unset: one in the user's cache folder"
    )
    shard: Annotated[Shard, NoDecode, BeforeValidator(Shard.parse)] = Field(
        Shard(0, 1), description="0/3, 1/3 and 2/3 share the results partitions; two of the same are copies"
    )

    def store_path(self, prefix: str) -> Path:
        """Where the store is: as set, or by the topics' prefix and the shard in the user's cache folder."""
        name = f"{prefix}-listener-{self.shard.number}-of-{self.shard.of}.sqlite"
        return self.store or user_cache_path("streamgauge") / name
