"""How long a command waits for Kafka at the start."""

from streamgauge.settings import KafkaSettings

PATIENCE_S = 5.0


class KafkaForPeople(KafkaSettings):
    """Kafka as a person at a terminal asks for it: who has mistyped an address soon learns it, unless they have set how
    long to wait. Once a broker has answered, it may be silent for as long as a service's: it may be starting again.
    """

    @property
    def reach_timeout_s(self) -> float:
        return self.connect_timeout_s if "connect_timeout_s" in self.model_fields_set else PATIENCE_S
