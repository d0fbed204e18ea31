"""What the listener can be told."""

from pydantic_settings import SettingsConfigDict

from streamgauge.settings import PREFIX, Port, ServiceSettings


class ListenerSettings(ServiceSettings):
    """Where the listener serves `/metrics`, `/livez` and `/readyz`."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LISTENER_")

    http_port: Port = 8002
