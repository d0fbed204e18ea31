"""JSON Schemas of the events, from their types and from the words beside their fields. Pure."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec

from streamgauge.events import Event, Feedback, Prediction, TextSubmitted, TransactionMeasured

EVENTS: Mapping[str, type[Event]] = {
    "text": TextSubmitted,
    "prediction": Prediction,
    "transaction": TransactionMeasured,
    "feedback": Feedback,
}
"""By the middle part of `ce_type`: streamgauge.text.v1, say."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def schema(name: str) -> Schema:
    """The schema of one event, complete in itself. Unknown fields are allowed: readers ignore them."""
    root, parts = definitions([EVENTS[name]], "#/$defs/{name}")
    return {"$schema": DIALECT, **root[0], "$defs": parts}


def definitions(types: list[type[Event]], ref: str) -> tuple[list[Schema], dict[str, Schema]]:
    """What stands for each type, and the schemas of all types by name; `ref`: how one names another."""
    roots, parts = msgspec.json.schema_components(types, ref_template=ref)
    for part in _events(Event):
        for field, words in _words(part).items():
            if part.__name__ in parts:
                parts[part.__name__]["properties"][field] |= {"description": words}
    return list(roots), parts


def _events(base: type[Event]) -> list[type[Event]]:
    return [each for child in base.__subclasses__() for each in (child, *_events(child))]


def _words(event: type[Event]) -> dict[str, str]:
    """The string that follows a field in the source, by field; also those of the types that it extends."""
    found: dict[str, str] = {}
    for part in reversed(event.__mro__):
        if issubclass(part, Event) and part is not Event:
            [tree] = ast.parse(textwrap.dedent(inspect.getsource(part))).body
            found |= _words_in(tree.body) if isinstance(tree, ast.ClassDef) else {}
    return found


def _words_in(body: list[ast.stmt]) -> dict[str, str]:
    return {
        field.target.id: " ".join(words.value.value.split())
        for field, words in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(words, ast.Expr)
        and isinstance(words.value, ast.Constant)
        and isinstance(words.value.value, str)
    }
