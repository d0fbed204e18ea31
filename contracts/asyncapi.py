"""The topics as an AsyncAPI 3 document: who writes what where, with which key and headers. Pure.

Of the events it holds the same schemas as the files beside it; of the topics what `topics create` makes them.
"""

from typing import Any

from contracts.schemas import EVENTS, Schema, definitions
from streamgauge import __version__
from streamgauge.events import MAX_HEADERS, MAX_ID_CHARS, Reason, cloud_event
from streamgauge.settings import TopicSettings
from streamgauge.topics import desired
from worker.dead_letters import ADDED, REPLAYED_HEADER
from worker.output import MAX_TRACEPARENT_BYTES

PREFIX = "{prefix}"
BINDING = "0.5.0"
"""Of Kafka's bindings in AsyncAPI."""
ABOUT = {
    "input": "Texts to be scored, as plain UTF-8 or as JSON. Any Kafka client may write them.",
    "results": "One for each text that was scored, in the order of the input partition. Read with read_committed.",
    "audit": "Those results that chance has chosen to be labelled. They stand among the results as well.",
    "metrics": "What each transaction covered, written in that same transaction.",
    "dead-letter": "Records that could not be scored, as they came, with the reason in their headers.",
    "feedback": "The classes that texts should have had. Anybody may write them; the last one for an id counts.",
}
MESSAGES = {
    "input": ["plainText", "jsonText"],
    "results": ["prediction"],
    "audit": ["prediction"],
    "metrics": ["transaction"],
    "dead-letter": ["deadLetter"],
    "feedback": ["feedback"],
}
WRITTEN_BY_OTHERS = ("input", "feedback")


def document() -> dict[str, Any]:
    """The whole of it; topics begin with a prefix, which is a parameter."""
    roots, parts = definitions([*EVENTS.values()], "#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Streamgauge",
            "version": __version__,
            "description": "Texts in, predictions out, labels in: what stands in the topics. "
            "Fields are only added, with defaults; readers ignore fields that they do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "Kafka 3.6 or later."}},
        "channels": {name: _channel(name) for name in ABOUT},
        "operations": {name: _operation(name) for name in ABOUT},
        "components": {"schemas": parts, "messages": messages(dict(zip(EVENTS, roots, strict=True)))},
    }


def _channel(name: str) -> dict[str, Any]:
    config = {topic.name: topic.config for topic in desired(TopicSettings(), 1, 3, {})}
    return {
        "address": f"{PREFIX}.{name}",
        "description": ABOUT[name],
        "parameters": {"prefix": {"default": TopicSettings().prefix, "description": "STREAMGAUGE_TOPIC_PREFIX."}},
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in MESSAGES[name]},
        "bindings": {
            "kafka": {
                "topicConfiguration": dict(map(_typed, sorted(config[f"{TopicSettings().prefix}.{name}"].items()))),
                "bindingVersion": BINDING,
            }
        },
    }


def _typed(setting: tuple[str, str]) -> tuple[str, Any]:
    """As AsyncAPI wants Kafka's settings."""
    name, value = setting
    if name == "cleanup.policy":
        return name, [value]
    return name, int(value) if value.lstrip("-").isdigit() else value


def _operation(name: str) -> dict[str, Any]:
    """From where Streamgauge stands: it receives what others write."""
    return {
        "action": "receive" if name in WRITTEN_BY_OTHERS else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": ABOUT[name],
    }


def messages(payloads: dict[str, Schema]) -> dict[str, Any]:
    """All messages; `payloads`: by the event's name, what stands for its schema."""
    message_id = {"type": "string", "maxLength": MAX_ID_CHARS, "description": "The id of the message."}
    any_key = {"type": ["string", "null"], "description": "Any; it is not looked at."}
    optional = cloud_event_headers("text", is_required=False)
    plain = {"type": "string", "minLength": 1, "description": "The text itself, in UTF-8."}
    return {
        "plainText": _message("A bare text", plain, optional, any_key, "text/plain; charset=utf-8"),
        "jsonText": _message("A text with an id or metadata", payloads["text"], optional, any_key),
        "prediction": _message(
            "A text's scores", payloads["prediction"], cloud_event_headers("prediction"), message_id
        ),
        "transaction": _message(
            "What a transaction covered",
            payloads["transaction"],
            cloud_event_headers("transaction"),
            {"type": "string", "description": "The replica's name."},
        ),
        "feedback": _message(
            "A label",
            payloads["feedback"],
            cloud_event_headers("feedback", is_required=False),
            {"type": ["string", "null"], "description": "Any. `streamgauge feedback` takes the id of the message."},
        ),
        "deadLetter": _message(
            "A record that was refused",
            {"description": "The bytes of the record, whatever they are."},
            dead_letter_headers(),
            {"description": "The key of the record."},
            "application/octet-stream",
        ),
    }


def _message(
    title: str, payload: Schema, headers: Schema, key: Schema, content_type: str = "application/json"
) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": content_type,
        "headers": headers,
        "payload": payload,
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
    }


def cloud_event_headers(name: str, *, is_required: bool = True) -> Schema:
    """CloudEvents attributes (binary mode) as a schema over the headers' values in UTF-8.

    Where they are not required, others write; theirs count only as the id of a text that names none.
    """
    kind = f"streamgauge.{name}.v1"
    attributes = [header for header, _value in cloud_event(id="", type=kind, source="", time="")]
    values: dict[str, Schema] = {header: {"type": "string"} for header in attributes}
    if is_required:
        values["ce_specversion"] |= {"const": "1.0"}
        values["ce_type"] |= {"const": kind}
        values["ce_time"] |= {"format": "date-time"}
        values["content-type"] |= {"const": "application/json"}
    if name in ("text", "prediction"):
        values["traceparent"] = {"type": "string", "description": "W3C's; handed on from a text to its result."}
    if name == "prediction":
        values["traceparent"] |= {"maxLength": MAX_TRACEPARENT_BYTES}
    limit = {"description": f"Of a text at most {MAX_HEADERS} headers, of any name."} if name == "text" else {}
    return {"type": "object", "properties": values, "required": attributes if is_required else [], **limit}


def dead_letter_headers() -> Schema:
    """What a refusal adds to the headers of its record."""
    values: dict[str, Schema] = {header: {"type": "string"} for header in (*ADDED, REPLAYED_HEADER)}
    values["__connect.errors.exception.class.name"] |= {
        "description": "The reason.",
        "enum": [reason.value for reason in Reason],
    }
    values[REPLAYED_HEADER] |= {"description": "When a record that had been a dead letter was published again."}
    return {"type": "object", "properties": values, "required": [*ADDED]}
