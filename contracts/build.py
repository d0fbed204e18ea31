"""Writes the contracts, JSON Schemas and the AsyncAPI document: `python -m contracts.build`. A test compares."""

import json
from pathlib import Path

import yaml

from contracts.asyncapi import document
from contracts.schemas import EVENTS, schema

FOLDER = Path(__file__).parent
RELEASED = FOLDER / "released"
"""By version, the schemas of a release and some records that it wrote."""


def generated() -> dict[Path, str]:
    """All generated files with their contents."""
    schemas = {
        FOLDER / f"{name}.schema.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n" for name in EVENTS
    }
    head = "# Generated from the code by `python -m contracts.build`.\n"
    body = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)
    return schemas | {FOLDER / "asyncapi.yaml": head + body}


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
