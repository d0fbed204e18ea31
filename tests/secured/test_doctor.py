"""A doctor on a Kafka that asks: who is not let in, and who may see a part only."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from streamgauge import rights
from streamgauge.commands.doctor.checks import Report
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.cluster import Stream
from tests.doctor.real import report_of, setup_of
from tests.secured.broker import PASSWORD, SecuredKafka


def as_user(secured: SecuredKafka, user: str, password: str = PASSWORD) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=secured.server("LOGIN"),
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username=user,
        password=SecretStr(password),
        ca_file=str(secured.identities.authority),
    )


async def test_a_refused_login_is_found(secured: SecuredKafka, tmp_path: Path) -> None:
    """What the broker said, without the password."""
    report = await report_of(setup_of(as_user(secured, "anna", "another"), TopicSettings(), "g", tmp_path))
    [finding] = report.findings
    assert finding.check == "kafka-login"
    assert "another" not in finding.what


@pytest.mark.parametrize(
    ("user", "roles", "unseen"),
    [
        ("listener", [], "may not see topic"),
        ("reader", ["reader", "producer"], "cannot read the configuration of topic"),
        ("operator", ["operator"], "may not read the brokers' settings"),
    ],
)
async def test_what_a_user_may_not_see_is_no_finding(
    secured: SecuredKafka, tmp_path: Path, user: str, roles: list[str], unseen: str
) -> None:
    """It is said instead, by name."""
    stream = await Stream.create(secured.plain)
    granted = [right for role in roles for right in rights.ROLES[role](stream.topics, stream.group)]
    if granted:
        await secured.grant(user, rights.merged(granted))
    report = await report_of(setup_of(as_user(secured, user), stream.topics, stream.group, tmp_path))
    assert not report.findings, report
    assert any(unseen in because for _name, because in report.not_made), report


async def test_who_may_see_all_has_it_seen(secured: SecuredKafka, tmp_path: Path) -> None:
    """Behind TLS and a login nothing else is different."""
    stream = await Stream.create(secured.plain)
    report: Report = await report_of(setup_of(as_user(secured, "anna"), stream.topics, stream.group, tmp_path))
    assert not report.findings
    assert "transaction-timeout" not in dict(report.not_made)
