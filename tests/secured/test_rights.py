"""The rights that `streamgauge acls` prints are enough for each user's commands, and each of them is needed."""

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streamgauge.commands.cli import exit_code
from streamgauge.rights import ROLES, Right, merged
from streamgauge.settings import KafkaSettings, TopicSettings
from tests.audited import publish_audited
from tests.cluster import Stream
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, STREAMGAUGE, get, run, service
from tests.end_to_end.test_top import lines_of, until_line
from tests.oracle import Input
from tests.secured.broker import LASTING, SecuredKafka
from tests.terminal import at_terminal

pytestmark = pytest.mark.timeout(400)

GROUP = "streamgauge"
PARTITIONS = 2


class Users:
    """Of one deployment: each has its role's rights on its topics, and runs its commands as itself."""

    def __init__(self, secured: SecuredKafka, prefix: str) -> None:
        self._secured, self.topics = secured, TopicSettings(prefix=prefix)
        self.rights = {role: merged(of(self.topics, f"{prefix}.{GROUP}")) for role, of in ROLES.items()}

    @property
    def stream(self) -> Stream:
        """As a user who may do anything."""
        return Stream(KafkaSettings(bootstrap_servers=self._secured.plain), self.topics, GROUP, PARTITIONS)

    def environment(self, user: str) -> dict[str, str]:
        return self._secured.environment(user, STREAMGAUGE_KAFKA_SASL_MECHANISM=LASTING) | {
            "STREAMGAUGE_TOPIC_PREFIX": self.topics.prefix,
            "STREAMGAUGE_WORKER_GROUP": f"{self.topics.prefix}.{GROUP}",
            "STREAMGAUGE_KAFKA_CONNECT_TIMEOUT_S": "20",
            "STREAMGAUGE_WORKER_AUDIT_SHARE": "1",
        }

    def grant_all(self) -> None:
        for role, rights in self.rights.items():
            asyncio.run(self._secured.grant(role, rights))

    def run(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, **self.environment(user))

    def does(self, user: str, *arguments: str) -> str:
        """Run a command that must succeed; returns what it prints."""
        done = self.run(user, *arguments)
        assert done.returncode == 0, (user, arguments, done.stderr)
        return done.stdout

    @contextmanager
    def without(self, user: str, *rights: Right) -> Iterator[None]:
        asyncio.run(self._secured.take(user, rights))
        try:
            yield
        finally:
            asyncio.run(self._secured.grant(user, rights))

    async def published(self, text: str) -> str:
        """Where a text stands that the producer has published."""
        self.does("producer", "produce", text)
        records = await self.stream.read([self.topics.input])
        [one] = [record for record in records if record.value == text.encode()]
        return f"{one.topic}:{one.partition}:{one.offset}"

    def tail(self, user: str, what: str, *, lines: int) -> list[str]:
        """The first lines of `tail --from earliest`."""
        command = [*STREAMGAUGE, "tail", what, "--from", "earliest"]
        with subprocess.Popen(
            command, env=QUIET_ENVIRONMENT | self.environment(user), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            found = [process.stdout.readline() for _ in range(lines)]
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
        return found


@pytest.fixture(scope="module")
def users(secured: SecuredKafka) -> Users:
    """Eight users with their topics, which the operator has made."""
    found = Users(secured, "rights")
    found.grant_all()
    found.does("operator", "topics", "create", "--partitions", str(PARTITIONS))
    return found


def test_every_user_can_do_its_work(users: Users) -> None:
    """From a text to a judged prediction, recounted; a skipped record and its replay."""
    worker, listener = users.environment("worker"), users.environment("listener")
    with (
        service("-m", "streamgauge", "worker", **worker),
        service("-m", "streamgauge", "listen", **listener) as (_p, port, _l),
    ):
        [message_id] = users.does("producer", "produce", "a lovely film").split()
        assert message_id in users.tail("reader", "results", lines=1)[0]
        assert message_id in users.tail("reader", "audit", lines=1)[0]
        users.does("labeller", "feedback", message_id, "POSITIVE")
        assert json.loads(users.does("reader", "stats", "--json"))["all"]["records"] == 1
        users.does("reader", "reconcile", "--listener", f"http://127.0.0.1:{port}")
        counted = run("accuracy", "--json", **users.environment("reader"), STREAMGAUGE_LISTENER_HTTP_PORT="1")
        assert (counted.returncode, json.loads(counted.stdout)["source"]) == (0, "the topics"), counted.stderr
    where = asyncio.run(users.published("never scored"))
    users.does("operator", "skip", where)
    with service("-m", "streamgauge", "worker", **worker):
        [letter] = users.tail("reader", "dead-letters", lines=1)
        assert "skipped" in letter
        assert "replayed 1 dead letters: skipped" in users.does("operator", "replay", "--reason", "skipped")


def taken(role: str, prefix: str = "rights") -> list[tuple[str, Right]]:
    """Each right of the role alone, by what it is called."""
    every = merged(ROLES[role](TopicSettings(prefix=prefix), f"{prefix}.{GROUP}"))
    return [
        (
            f"{operation} on {right.resource.replace('transactionalId', 'transactional id')} {right.name}",
            right._replace(operations=(operation,)),
        )
        for right in every
        for operation in right.operations
    ]


SKIP, REPLAY = ("skip", "rights.input:0:0"), ("replay", "--reason", "skipped")
OF_WORKERS = f"rights.{GROUP}"
COMMANDS = {
    "worker": ("worker", "--http-port", "0"),
    "listener": ("listen", "--http-port", "0"),
    "producer": ("produce", "a text"),
    "labeller": ("feedback", "an-id", "POSITIVE"),
    "page": ("app", "--http-port", "0"),
}


@pytest.mark.parametrize("role", list(COMMANDS))
def test_a_missing_right_is_named(
    role: str, users: Users, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command ends, and says operation, resource and where to look. In this process: it is started fifty times."""
    for name, value in users.environment(role).items():
        monkeypatch.setenv(name, value)
    for named, right in taken(role):
        with users.without(role, right):
            code, errors = exit_code(COMMANDS[role]), capfd.readouterr().err
            assert code == 2, (named, errors)
            assert f"Kafka does not allow this user: {named}" in errors
            assert "streamgauge acls --help" in errors


def test_who_waits_for_a_result_must_be_allowed_to_read_it(users: Users) -> None:
    """Else nothing is sent."""
    ended = users.run("producer", "produce", "--wait", "a text")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Kafka does not allow this user: Read on topic rights.results; Read on topic rights.dead" in ended.stderr


def test_an_auditors_missing_right_is_named(secured: SecuredKafka) -> None:
    """Each before anything is asked. Whoever only lists what is to be labelled need not write."""
    own = Users(secured, "audited")
    own.grant_all()
    own.does("operator", "topics", "create", "--partitions", str(PARTITIONS))
    asyncio.run(publish_audited(own.stream, [("an-id", b"a text")]))
    environment = QUIET_ENVIRONMENT | own.environment("auditor")
    for named, right in taken("auditor", "audited"):
        with own.without("auditor", right), at_terminal(["audit"], environment) as seat:
            code, errors = seat.ended()
            assert (code, f"Kafka does not allow this user: {named}\n" in errors) == (2, True), errors
    with own.without("auditor", Right("topic", own.topics.feedback, ("Write",))):
        assert json.loads(own.does("auditor", "audit"))["text"] == "a text"
    with at_terminal(["audit"], environment) as seat:
        seat.until("> ")
        seat.type("2")
        assert seat.ended() == (0, "labelled now: 1; still to be labelled: 0\n")


@pytest.mark.parametrize(
    ("operation", "topic", "command"),
    [
        ("Read", "results", ("tail", "results")),
        ("Read", "audit", ("tail", "audit")),
        ("Read", "metrics", ("tail", "metrics")),
        ("Read", "metrics", ("stats",)),
        ("Read", "dead-letter", ("tail", "dead-letters")),
        ("Read", "feedback", ("reconcile",)),
    ],
)
def test_a_readers_missing_right_is_named(operation: str, topic: str, command: tuple[str, ...], users: Users) -> None:
    """`reconcile` asks a listener first, so there is one."""
    right = Right("topic", f"rights.{topic}", ("Read",))
    with (
        service("-m", "streamgauge", "listen", **users.environment("listener")) as (_process, port, _log),
        users.without("reader", right),
    ):
        while get(port, "/readyz")[0] != 200:
            time.sleep(0.1)
        arguments = (*command, "--listener", f"http://127.0.0.1:{port}") if command == ("reconcile",) else command
        done = users.run("reader", *arguments)
        assert (done.returncode, f"{operation} on topic rights.{topic}" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("right", "named"),
    [
        (Right("topic", "rights.metrics", ("Read",)), "metric events: {}Read on topic rights.metrics"),
        (Right("topic", "rights.input", ("Describe",)), "the workers' group: {}Describe on topic rights.input"),
        (Right("group", OF_WORKERS, ("Describe",)), "the workers' group: {}Describe on group rights.streamgauge"),
    ],
)
def test_top_shows_what_the_reader_may_see(right: Right, named: str, users: Users) -> None:
    """And says what it may not; with all rights it says nothing of the kind."""
    with lines_of(**users.environment("reader")) as (_process, lines):
        line = until_line(lines, "0 texts/s", "lag \\d")
        assert "does not allow" not in line
    with users.without("reader", right), lines_of(**users.environment("reader")) as (_process, lines):
        until_line(lines, re.escape(named.format("Kafka does not allow this user: ")))


@pytest.mark.parametrize(
    ("right", "named", "command"),
    [
        (Right("topic", "rights.input", ("Read",)), "Read on topic rights.input", SKIP),
        (
            Right("group", OF_WORKERS, ("Read",)),
            "Read on group rights.streamgauge",
            SKIP,
        ),
        (
            Right("transactionalId", "rights.streamgauge/", ("Write",), is_prefix=True),
            "Write on transactional id rights.streamgauge/*",
            SKIP,
        ),
        (
            Right("topic", "rights.dead-letter", ("Read",)),
            "Read on topic rights.dead-letter",
            REPLAY,
        ),
        (Right("topic", "rights.input", ("Write",)), "Write on topic rights.input", REPLAY),
        (
            Right("group", "rights.streamgauge.replay.", ("Read",), is_prefix=True),
            "Read on group rights.streamgauge.replay.*",
            REPLAY,
        ),
        (
            Right("transactionalId", "rights.streamgauge.replay.", ("Write",), is_prefix=True),
            "Write on transactional id rights.streamgauge.replay.*",
            REPLAY,
        ),
        (
            Right("topic", "rights.input", ("Alter",)),
            "Alter on topic rights.input",
            ("topics", "create", "--partitions", "3"),
        ),
    ],
)
def test_an_operators_missing_right_is_named(right: Right, named: str, command: tuple[str, ...], users: Users) -> None:
    asyncio.run(users.stream.publish([Input(b"to be skipped", 0)]))
    with users.without("operator", right):
        done = users.run("operator", *command)
        assert (done.returncode, named in done.stderr) == (2, True), done.stderr


def test_the_rights_to_make_topics_are_named(secured: SecuredKafka) -> None:
    """Create, where there is none; AlterConfigs, where one is not as it must be."""
    fresh = Users(secured, "fresh")
    fresh.grant_all()
    with fresh.without("operator", Right("topic", "fresh.metrics", ("Create",))):
        done = fresh.run("operator", "topics", "create")
        assert (done.returncode, "Create on topic fresh.metrics" in done.stderr) == (2, True), done.stderr
    fresh.does("operator", "topics", "create")
    asyncio.run(secured.grant("operator", [Right("topic", "fresh.results", ("DescribeConfigs",))]))
    larger = {"STREAMGAUGE_TOPIC_JOIN_WINDOW_DAYS": "9"}
    with fresh.without("operator", Right("topic", "fresh.results", ("AlterConfigs",))):
        done = run("topics", "create", **fresh.environment("operator"), **larger)
        assert (done.returncode, "AlterConfigs on topic fresh.results" in done.stderr) == (2, True), done.stderr
