"""The rights as they are printed; that they are enough and needed, tests/secured shows on a broker."""

from streamgauge.rights import CODES, ROLES, as_commands, as_strimzi, merged, operator
from streamgauge.settings import TopicSettings
from streamgauge.topic_ids import codes
from tests.cluster import ROOT


def test_commands_are_kafkas_own() -> None:
    """A line a resource; a resource is named once."""
    lines = list(as_commands(operator(TopicSettings(prefix="shop"), "g"), "User:anna", "kafka:9093"))
    start = "kafka-acls.sh --bootstrap-server kafka:9093 --add --allow-principal 'User:anna' "
    assert start + "--operation Read --transactional-id" not in "\n".join(lines)
    assert start + "--operation Write --transactional-id 'g/' --resource-pattern-type prefixed" in lines
    assert start + "--operation Read --group 'g'" in lines
    assert len({line.split("--operation")[-1].split(" ", 2)[2] for line in lines}) == len(lines)


def test_the_page_is_what_is_printed() -> None:
    """Row by row, for the default names."""
    rows = [
        f"| {role} | {right.resource.replace('transactionalId', 'transactional id')} "
        f"| `{right.name}{'*' if right.is_prefix else ''}` | {', '.join(right.operations)} |"
        for role, rights in ROLES.items()
        for right in merged(rights(TopicSettings(), "streamgauge"))
    ]
    page = (ROOT / "infra" / "secured.md").read_text()
    assert page.split("|---|---|---|---|\n")[1].split("\n\n")[0].splitlines() == rows


def test_a_broker_that_does_not_tell_refuses_nothing() -> None:
    """Not every Kafka tells what it allows; a bit that is not set is a right that is missing."""
    for untold in (-(2**31), 0, 1 << CODES["Read"]):
        assert codes(untold) >= set(CODES.values())
    assert codes(1 << CODES["Read"] | 1 << CODES["Describe"]) == {CODES["Read"], CODES["Describe"]}


def test_no_role_may_delete() -> None:
    """Nor do anything with the whole cluster."""
    for role, rights in ROLES.items():
        text = "\n".join(as_strimzi(rights(TopicSettings(), "g")))
        assert "Delete" not in text, role
        assert "All" not in text, role
        assert "cluster" not in text, role
