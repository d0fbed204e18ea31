"""What breaks between two versions of an event's schema. Pure.

An event has to answer one question or both. **May it be read?** What was valid still is: records stay in the topics,
and clients go on writing as they did. **May it be written?** What is valid now was valid before, but for new fields:
clients go on reading as they did. It knows the keywords that msgspec writes, and refuses others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

BOUNDS = {"minimum": 1, "minLength": 1, "maximum": -1, "maxLength": -1}
"""By keyword, the sign with which a larger number allows less."""
WORDS = {"title", "description", "default", "$defs", "$schema"}
KNOWN = WORDS | BOUNDS.keys() | {"type", "properties", "required", "items", "additionalProperties", "anyOf"}


def broken_for_writers(old: Schema, new: Schema) -> list[str]:
    """Why something that was valid is not any more, or does not mean what it did; empty: nothing of the kind."""
    return [*_refused(_View(old, old), _View(new, new), "event", is_older=True)]


def broken_for_readers(old: Schema, new: Schema) -> list[str]:
    """Why something that is valid now was not valid before; empty: nothing of the kind. New fields are welcome."""
    return [*_refused(_View(new, new), _View(old, old), "event", is_older=False)]


class _View:
    """A part of a schema, and the document whose definitions it refers to."""

    def __init__(self, root: Schema, part: Schema) -> None:
        while "$ref" in part:
            part = root["$defs"][part["$ref"].rsplit("/", 1)[1]]
        if unknown := part.keys() - KNOWN:
            raise ValueError(f"no rule for {sorted(unknown)}")
        self.root, self.part = root, part
        self.choices = [self.at(choice) for choice in part["anyOf"]] if "anyOf" in part else [self]
        self.fields: Mapping[str, Schema] = part.get("properties", {})
        self.required = {*part.get("required", ())}

    def at(self, part: Schema) -> "_View":
        return _View(self.root, part)


def _refused(given: _View, taken: _View, where: str, *, is_older: bool) -> Iterator[str]:
    """Why not all that `given` allows is allowed by `taken`; `is_older`: whether `given` is the older one."""
    for choice in given.choices:
        refusals = [[*_refused_choice(choice, other, where, is_older=is_older)] for other in taken.choices]
        yield from min(refusals, key=len)


def _refused_choice(given: _View, taken: _View, where: str, *, is_older: bool) -> Iterator[str]:
    types = given.part.get("type"), taken.part.get("type")
    if types[0] != types[1] and types != ("integer", "number"):
        yield f"{where}: {types[0]} is not {types[1]}"
        return
    for bound, sign in BOUNDS.items():
        limit, own_limit = taken.part.get(bound), given.part.get(bound)
        if limit is not None and (own_limit is None or sign * own_limit < sign * limit):
            yield f"{where}: {bound} {own_limit} exceeds {bound} {limit}"
    for inner in {"items", "additionalProperties"} & taken.part.keys():
        own, others = given.at(given.part[inner]), taken.at(taken.part[inner])
        yield from _refused(own, others, f"{where}[]", is_older=is_older)
    for field in sorted(taken.required - given.required):
        yield f"{where}.{field}: it may be missing, but must not"
    for field, part in given.fields.items():
        if field in taken.fields:
            other = taken.fields[field]
            if part.get("default") != other.get("default"):
                yield f"{where}.{field}: another default"
            yield from _refused(given.at(part), taken.at(other), f"{where}.{field}", is_older=is_older)
        elif is_older:
            yield f"{where}.{field}: it is gone"
