"""The page of all settings, from the classes that read them."""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generators.table import table
from feedback_listener.settings import ListenerSettings
from streamgauge.commands.page.settings import AppSettings
from streamgauge.settings import KafkaSettings, LogSettings, Settings, TopicSettings
from worker.settings import PROFILES, WorkerSettings

INTRO = """# Settings

Generated from the code by `python -m docs.build`. They come from the environment, or from a file `.env` in the folder
where a command is started. The environment counts more, and an option of a command most. A name that does not exist is
refused, with the nearest one that does. An empty variable is an unset one. Names end with their unit: `_s` are seconds,
`_bytes` bytes.
"""
SECTIONS: dict[str, type[Settings]] = {
    "Kafka": KafkaSettings,
    "Topics": TopicSettings,
    "Logs": LogSettings,
    "Worker": WorkerSettings,
    "Listener": ListenerSettings,
    "Web page": AppSettings,
}
MADE = {
    "STREAMGAUGE_WORKER_INSTANCE": "the host's name and six random digits",
    "STREAMGAUGE_WORKER_MODEL_SLOTS": "usable cores, at most 8",
    "STREAMGAUGE_WORKER_MODEL_DIR": "the model that comes along",
}
"""What stands for a default that the machine decides."""
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "pattern": "matches"}


def page() -> str:
    """A table a section."""
    return INTRO + "".join(_section(title, section) for title, section in SECTIONS.items()) + _profiles()


def name_of(section: type[Settings], field: str) -> str:
    """As it stands in the environment."""
    return f"{section.model_config['env_prefix']}{field}".upper()


def _section(title: str, section: type[Settings]) -> str:
    words = " ".join((section.__doc__ or "").split())
    fields = section.model_fields.items()
    rows = [(f"`{name_of(section, name)}`", *_columns(name_of(section, name), field)) for name, field in fields]
    return f"\n## {title}\n\n{words}\n\n" + table(("setting", "default", "allowed", "meaning"), rows)


def _columns(name: str, field: FieldInfo) -> tuple[str, str, str]:
    default = MADE.get(name) or _shown(field.get_default(call_default_factory=False))
    return default, ", ".join(_allowed(field)), field.description or ""


def _shown(default: object) -> str:
    if default is PydanticUndefined:
        raise ValueError("a default that is made needs words in MADE")
    return "" if default in (None, "") else f"`{default}`"


def _allowed(field: FieldInfo) -> Iterator[str]:
    yield from _choices(field.annotation)
    for rule in field.metadata:
        for bound, words in BOUNDS.items():
            if (limit := getattr(rule, bound, None)) is not None:
                yield f"{words} `{limit}`" if bound == "pattern" else f"{words} {limit:,}"


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [f"`{value}`" for value in typing.get_args(kind)]
    return [choice for inner in typing.get_args(kind) for choice in _choices(inner)]


def _profiles() -> str:
    rows = [
        (f"`{name_of(WorkerSettings, field)}`", *(f"`{own.get(field, _default(field))}`" for own in PROFILES.values()))
        for field in dict.fromkeys(field for own in PROFILES.values() for field in own)
    ]
    return "\n## Profiles of the worker\n\nDefaults that go together. What is set by name counts more.\n\n" + table(
        ("setting", *PROFILES), rows
    )


def _default(field: str) -> object:
    return WorkerSettings.model_fields[field].default
