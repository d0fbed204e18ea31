"""The contracts: generated and valid, true to what the code reads and writes, and no break with the last release."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.build import FOLDER, RELEASED, generated
from contracts.compatibility import broken_for_readers, broken_for_writers
from contracts.schemas import EVENTS, Schema
from producer.corpus import Sample
from producer.publish import feedback_record, text_record
from streamgauge.events import Feedback, decode_feedback, decode_measurement, decode_prediction, utc_now
from tests.cluster import ROOT
from tests.described import DOCUMENT, check_described, validator

WRITTEN = {"prediction", "transaction"}
"""By us alone. What others write as well is read by us alone."""
NEVER_WRITTEN = re.compile(r"minimum None exceeds minimum 0|maximum None exceeds maximum 9007199254740992")
"""Counts got bounds after 0.2.0, which wrote none that was negative, or above 2**53."""
READERS = {"results": decode_prediction, "metrics": decode_measurement, "feedback": decode_feedback}


def released() -> str:
    """The last release, as the changelog has it."""
    found = re.search(r"^## \[(\d+\.\d+\.\d+)]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def committed(name: str, folder: Path = FOLDER) -> Schema:
    loaded: Schema = json.loads((folder / f"{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_what_is_committed_is_what_is_generated(path: Path) -> None:
    """`python -m contracts.build` changes nothing."""
    assert path.read_text(encoding="utf-8") == generated()[path]


@pytest.mark.parametrize("name", EVENTS)
def test_a_schema_is_one(name: str) -> None:
    """Valid by its dialect; each type is explained."""
    jsonschema.Draft202012Validator.check_schema(committed(name))
    assert all(part["description"] for part in committed(name)["$defs"].values())


def test_the_document_is_asyncapi() -> None:
    """By AsyncAPI's own schema.

    It is npm's @asyncapi/specs 6.11.1 (Apache-2.0), `3.0.0-without-$id.json`; descriptions and examples are left out.
    """
    asyncapi = json.loads((Path(__file__).parent / "asyncapi-3.0.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(asyncapi).validate(DOCUMENT)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(asyncapi).validate(DOCUMENT | {"channels": {"input": {"adress": "x"}}})


def test_every_reference_leads_somewhere() -> None:
    """AsyncAPI's schema does not look where a reference leads."""
    references = re.findall(r"\$ref: '?#/([\w/-]+)", (FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert len(references) > 20
    for reference in references:
        part: Any = DOCUMENT
        for name in reference.split("/"):
            part = part[name]


texts = st.one_of(st.text(max_size=5), st.just("x" * 300), st.none(), st.integers())
metadata = st.one_of(st.none(), st.dictionaries(st.text(max_size=2), st.one_of(texts, st.booleans(), st.lists(texts))))


@given(st.fixed_dictionaries({}, optional={"text": texts, "id": texts, "metadata": metadata, "more": texts}))
def test_a_text_is_valid_where_it_is_read(event: dict[str, Any]) -> None:
    """The schema and the decoder agree on every text."""
    assert is_read(EVENTS["text"], event) == validator("jsonText", "payload").is_valid(event)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["id", "label", "source", "at", "more"], texts)))
def test_a_label_is_valid_where_it_is_read(event: dict[str, Any]) -> None:
    """The schema and the decoder agree on every label."""
    assert is_read(EVENTS["feedback"], event) == validator("feedback", "payload").is_valid(event)


def is_read(kind: type[msgspec.Struct], event: dict[str, Any]) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(event), type=kind)
    except msgspec.ValidationError:
        return False
    return True


def test_what_the_commands_send_is_described() -> None:
    """Texts of both forms, and labels."""
    forms = {}
    for sample in (Sample("fine"), Sample("fine", id="7"), Sample('{"not": json'), Sample("\0")):
        value, headers = text_record(sample, source="producer", ce_id="1", now=utc_now())
        forms[sample.text, sample.id] = check_described("input", None, value, headers)
    assert [*forms.values()] == ["plainText", "jsonText", "jsonText", "jsonText"]
    key, value, headers = feedback_record(Feedback(id="7", label="POSITIVE", source="anna"), now=utc_now())
    assert check_described("feedback", key, value, headers) == "feedback"


@pytest.mark.parametrize("name", EVENTS)
def test_nothing_breaks_with_the_last_release(name: str) -> None:
    """What was written can be read; of what we write, readers of the last release can read all."""
    old, new = committed(name, RELEASED / released()), committed(name)
    assert [each for each in broken_for_writers(old, new) if not NEVER_WRITTEN.search(each)] == []
    if name in WRITTEN:
        assert broken_for_readers(old, new) == []


def test_records_of_the_last_release_are_read_and_described() -> None:
    """A run of it wrote them: a result with metadata, a dead letter, a label and what belongs to them."""
    lines = (RELEASED / released() / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["topic"] for record in records} == {"input", "results", "metrics", "dead-letter", "feedback"}
    for record in records:
        key, value = record["key"] and record["key"].encode(), record["value"].encode()
        headers = [(name, header.encode()) for name, header in record["headers"].items()]
        check_described(record["topic"], key, value, headers)
        if record["topic"] in READERS:
            READERS[record["topic"]](value)


BREAKS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a field is gone": ("prediction", lambda defs: defs["Prediction"]["properties"].pop("metadata"), "it is gone"),
    "a field is renamed": (
        "prediction",
        lambda defs: defs["Timings"]["properties"].update(model_s=defs["Timings"]["properties"].pop("infer_s")),
        "infer_s: it is gone",
    ),
    "a new field has no default": ("feedback", lambda defs: defs["Feedback"]["required"].append("at"), "at: it may be"),
    "a field may be missing": (
        "prediction",
        lambda defs: defs["Prediction"]["required"].remove("tokens"),
        "tokens: it may be missing",
    ),
    "another type": (
        "prediction",
        lambda defs: defs["Position"]["properties"]["offset"].update(type="string"),
        "offset: integer is not string",
    ),
    "a wider type": (
        "transaction",
        lambda defs: defs["TransactionMeasured"]["properties"]["records"].update(type="number"),
        "records: number is not integer",
    ),
    "null as well": (
        "prediction",
        lambda defs: defs["Prediction"]["properties"].update(label={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "label: null is not string",
    ),
    "shorter ids": (
        "text",
        lambda defs: defs["TextSubmitted"]["properties"]["id"]["anyOf"][0].update(maxLength=100),
        "id: maxLength 256 exceeds maxLength 100",
    ),
    "another default": (
        "feedback",
        lambda defs: defs["Feedback"]["properties"]["schema"].update(default=2),
        "schema: another default",
    ),
    "a narrower map": (
        "text",
        lambda defs: defs["TextSubmitted"]["properties"]["metadata"]["anyOf"][0]["additionalProperties"]["anyOf"].pop(),
        "metadata[]: null is not",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_break_is_noticed(what: str) -> None:
    """The control: each kind of break, made on purpose, is named."""
    name, do_break, expected = BREAKS[what]
    old, new = committed(name), committed(name)
    do_break(new["$defs"])
    found = broken_for_writers(old, new) + (broken_for_readers(old, new) if name in WRITTEN else [])
    assert any(expected in each for each in found), found


def test_what_is_allowed_is_not_called_a_break() -> None:
    """A new field with a default; for those who write, a bound that allows more."""
    old, new = committed("text"), committed("text")
    fields = new["$defs"]["TextSubmitted"]["properties"]
    fields["language"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    fields["id"]["anyOf"][0]["maxLength"] = 512
    assert broken_for_writers(old, new) == []
    assert broken_for_readers(old, new) == ["event.id: maxLength 512 exceeds maxLength 256"]


def test_a_keyword_without_a_rule_is_refused() -> None:
    """What msgspec does not write today is not passed over tomorrow."""
    with pytest.raises(ValueError, match="no rule for"):
        broken_for_writers(committed("text"), {"pattern": "x"})
