"""The settings of the web page."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from streamgauge.settings import PREFIX, Port, Settings

ANOTHER_PORT = "STREAMGAUGE_APP_HTTP_PORT=0 takes a free one, and so does `streamgauge app --http-port 0`"


class AppSettings(Settings):
    """Where the page is served, and whom it asks."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}APP_")

    http_host: str = Field("127.0.0.1", description="whoever reaches the page may read texts and label them")
    http_port: Port = Field(8501, description="0 picks a free one")
    listener_urls: str = Field("http://localhost:8002", description="all listeners, with commas")
    prometheus_url: str | None = Field(None, description="then charts are from there, and go back further")

    @property
    def listeners(self) -> list[str]:
        """Addresses without the path."""
        return [url.strip().rstrip("/").removesuffix("/metrics") for url in self.listener_urls.split(",")]
