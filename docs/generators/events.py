"""The page of all topics and events, from the contracts."""

import json
from collections.abc import Iterator
from typing import Any

from contracts.asyncapi import ABOUT, MESSAGES, WRITTEN_BY_OTHERS, document
from docs.generators.table import table

INTRO = """# Events

Generated from the code by `python -m docs.build`. For tools the same is in an AsyncAPI 3 document,
[asyncapi.yaml](../../contracts/asyncapi.yaml), and as JSON Schema: [text](../../contracts/text.schema.json),
[prediction](../../contracts/prediction.schema.json), [transaction](../../contracts/transaction.schema.json),
[feedback](../../contracts/feedback.schema.json).

Values are JSON in UTF-8. Fields are only added, and have defaults; readers ignore fields that they do not know. A test
refuses a change that breaks clients of the last release. Read with the isolation level `read_committed`: what a
transaction has not committed does not count.
"""
TOPICS = """
## Topics

`sentiment` is `STREAMGAUGE_TOPIC_PREFIX`. How long records are kept is the least; it may be longer.

"""
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def page() -> str:
    """The topics, then each message with its headers and fields."""
    described = document()
    messages, schemas = described["components"]["messages"], described["components"]["schemas"]
    names = dict.fromkeys(name for own in MESSAGES.values() for name in own)
    return INTRO + _topics(described) + "".join(_message(messages[name], schemas) for name in names) + _parts(schemas)


def _topics(described: dict[str, Any]) -> str:
    rows = []
    for name, about in ABOUT.items():
        config = described["channels"][name]["bindings"]["kafka"]["topicConfiguration"]
        days = f"{config['retention.ms'] / 86_400_000:g} days"
        writer = "you" if name in WRITTEN_BY_OTHERS else "worker"
        titles = " or ".join(described["components"]["messages"][each]["title"].lower() for each in MESSAGES[name])
        rows.append((f"`sentiment.{name}`", writer, titles, days, about))
    return TOPICS + table(("topic", "written by", "what", "kept", ""), rows)


def _message(message: dict[str, Any], schemas: dict[str, Any]) -> str:
    headers = message["headers"]
    rows = [(f"`{name}`", _kind(part), part.get("description", "")) for name, part in headers["properties"].items()]
    payload = message["payload"]
    key = message["bindings"]["kafka"]["key"].get("description", "")
    shown = f"\n## {message['title']}\n\n{payload.get('description') or _words(payload, schemas)}\n\n"
    shown += f"Content type `{message['contentType']}`. Key: {key}\n\n"
    shown += _fields(payload, schemas) + "\n" if "$ref" in payload else ""
    must = "Headers:" if headers["required"] else "Headers, none of which is needed:"
    return shown + f"{must}\n\n" + table(("header", "value", ""), rows)


def _words(payload: dict[str, Any], schemas: dict[str, Any]) -> str:
    return str(schemas[_name(payload)]["description"])


def _name(part: dict[str, Any]) -> str:
    return str(part["$ref"]).rsplit("/", 1)[1]


def _fields(part: dict[str, Any], schemas: dict[str, Any]) -> str:
    own = schemas[_name(part)]
    rows = [
        (f"`{name}`", _kind(field), _default(name, field, own), field.get("description", ""))
        for name, field in own["properties"].items()
    ]
    return table(("field", "value", "default", "meaning"), rows)


def _default(name: str, field: dict[str, Any], own: dict[str, Any]) -> str:
    if name in own.get("required", []):
        return "must be there"
    default = field.get("default")
    return f"`{json.dumps(default)}`"


def _parts(schemas: dict[str, Any]) -> str:
    """What several events are made of."""
    shown = ""
    for name in ("ModelRef", "Position", "Timings", "Histogram", "CoveredByModel"):
        words = schemas[name]["description"]
        shown += f"\n### {name}\n\n{words}\n\n" + _fields({"$ref": f"#/{name}"}, schemas)
    return "\n## Parts of events\n" + shown


def _kind(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return f"[{_name(part)}](#{_name(part).lower()})"
    if "anyOf" in part:
        return " or ".join(_kind(choice) for choice in part["anyOf"])
    return ", ".join(_kinds(part))


def _kinds(part: dict[str, Any]) -> Iterator[str]:
    kind = part.get("type")
    if "const" in part:
        yield f"`{part['const']}`"
    elif kind == "array":
        yield f"list of {_kind(part['items'])}"
    elif kind == "object":
        yield f"object of ({_kind(part['additionalProperties'])})"
    else:
        yield TYPES[str(kind)]
    if "enum" in part:
        yield "one of " + ", ".join(f"`{value}`" for value in part["enum"])
    if "maxLength" in part:
        yield f"at most {part['maxLength']} characters"
    if "minimum" in part:
        yield f"at least {part['minimum']}"
