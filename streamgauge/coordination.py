"""Whether the cluster can coordinate groups and transactions at all; without that every commit waits for ever.

Both need a topic of the brokers' own, which they make when it is first needed. With fewer brokers than its replication
factor they cannot, and clients are only told to try again. So it is looked up here, where it can be named.
"""

from collections.abc import Collection, Iterator, Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from streamgauge.errors import ConfigurationError

LOGS = {"__transaction_state": "transaction.state.log", "__consumer_offsets": "offsets.topic"}
"""The brokers' own topics, and how the names of their settings begin."""


async def check_coordination(admin: AIOKafkaAdminClient) -> None:
    """Refuse a cluster that cannot make the topics of its coordinators; raises ConfigurationError.

    Where brokers' settings may not be read, nothing is refused.
    """
    missing = LOGS.keys() - set(await admin.list_topics())
    if not missing:
        return
    brokers = (await admin.describe_cluster())["brokers"]
    config = await broker_config(admin, brokers[0]["node_id"])
    for problem in impossible_logs(missing, len(brokers), config):
        raise ConfigurationError(problem)


def impossible_logs(missing: Collection[str], brokers: int, config: Mapping[str, str]) -> Iterator[str]:
    """Of the logs that are not there yet: a line for each that so many brokers with these settings cannot create."""
    for topic in sorted(missing):
        setting = f"{LOGS[topic]}.replication.factor"
        factor = int(config.get(setting) or 1)
        if factor > brokers:
            yield (
                f"the brokers cannot create {topic}: their setting {setting} is {factor}, but there are {brokers} "
                f"brokers; set {setting}={brokers} on the brokers and restart them, or start more brokers"
            )


async def broker_config(admin: AIOKafkaAdminClient, node_id: int) -> dict[str, str]:
    """The settings of a broker; none where they may not be read."""
    try:
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(node_id))])
    except KafkaError:
        return {}
    return {key: value for _error, _message, _type, _name, entries in answer.resources for key, value, *_ in entries}
