"""Takes the picture: brokers, services, Prometheus and this machine are asked side by side."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from streamgauge.commands.doctor.collecting import part
from streamgauge.commands.doctor.http_collecting import ask_service, session
from streamgauge.commands.doctor.kafka_collecting import look_at_kafka
from streamgauge.commands.doctor.machine_collecting import look_at_machine
from streamgauge.commands.doctor.picture import Picture, Prometheus, Setup, Unseen
from streamgauge.commands.doctor.prometheus_collecting import ask_prometheus
from streamgauge.commands.probe import local_address
from streamgauge.settings import ServiceSettings


class Addresses(NamedTuple):
    """Where services and Prometheus are. Without workers or listeners: those of this machine, as settings have it."""

    workers: Sequence[str] = ()
    listeners: Sequence[str] = ()
    prometheus: str | None = None


async def take(setup: Setup, addresses: Addresses) -> Picture:
    """Nothing is changed anywhere. What cannot be had is Unseen in it."""
    asked = [("worker", url) for url in addresses.workers or _local(setup.worker)]
    asked += [("listener", url) for url in addresses.listeners or _local(setup.listener)]
    async with session() as http, asyncio.TaskGroup() as tasks:
        kafka = tasks.create_task(look_at_kafka(setup))
        machine = tasks.create_task(asyncio.to_thread(look_at_machine, setup))
        services = [tasks.create_task(ask_service(http, service, url)) for service, url in asked]
        watching: asyncio.Task[Prometheus | Unseen] | None = None
        if addresses.prometheus:
            watching = tasks.create_task(part(ask_prometheus(http, addresses.prometheus), addresses.prometheus))
    door, cluster = kafka.result()
    return Picture(
        setup=setup,
        door=door,
        cluster=cluster,
        machine=machine.result(),
        answers=tuple(answer for service in services if (answer := service.result())),
        prometheus=watching.result() if watching else Unseen("no Prometheus was named: --prometheus URL"),
    )


def _local(settings: ServiceSettings) -> list[str]:
    """Where a service of this machine listens, if its port is known."""
    host = local_address(settings)
    return [f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"] if settings.http_port else []
