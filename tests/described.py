"""Records held against the AsyncAPI document: every value, header and key by the schemas of its message."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import jsonschema
import yaml

from contracts.build import FOLDER

DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))


@cache
def validator(message: str, *path: str) -> jsonschema.Draft202012Validator:
    """Of one part of a message, such as its payload; formats are checked."""
    part = DOCUMENT["components"]["messages"][message]
    for name in path:
        part = part[name]
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(DOCUMENT | part, format_checker=formats)


def message_of(topic: str, value: bytes | None) -> str:
    """The message that a record is; `topic` without its prefix."""
    messages = [*DOCUMENT["channels"][topic]["messages"]]
    if len(messages) == 1:
        return str(messages[0])
    return "jsonText" if (value or b"").lstrip().startswith(b"{") else "plainText"


def check_described(
    topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
) -> str:
    """Raise jsonschema.ValidationError where a record is not what the document says; returns the message that it is."""
    message = message_of(topic, value)
    texts = {name: (header or b"").decode(errors="replace") for name, header in headers}
    validator(message, "headers").validate(texts)
    validator(message, "bindings", "kafka", "key").validate(key and key.decode(errors="replace"))
    payload: Any = (value or b"").decode(errors="replace")
    is_json = DOCUMENT["components"]["messages"][message]["contentType"] == "application/json"
    validator(message, "payload").validate(json.loads(payload) if is_json else payload)
    return message
