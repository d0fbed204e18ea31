"""`streamgauge stats` and `streamgauge tail` on what a real worker wrote."""

import json
import signal
import subprocess

from tests.cluster import Kafka, Stream
from tests.end_to_end.test_commands import QUIET_ENVIRONMENT, SECRET, STREAMGAUGE, environment_of, run, service
from tests.oracle import Input


async def test_stats_and_tail(kafka: Kafka) -> None:
    """The metric events alone give the numbers back; a tail shows what comes, no text unasked, and ends on Ctrl-C."""
    stream = await Stream.create(kafka.bootstrap_servers)
    settings = environment_of(stream)
    with (
        service("-m", "worker", **settings),
        started(["tail", "results", "--from", "earliest"], settings) as tail,
    ):
        refused = [Input(f"{{{SECRET} {number}".encode(), 0) for number in range(10)]
        await stream.publish([Input(f"{SECRET} {number}".encode(), 0) for number in range(90)] + refused)
        await stream.read(at_least=100)
        assert tail.stdout
        lines = [tail.stdout.readline() for _ in range(90)]
        tail.send_signal(signal.SIGINT)
        rest, errors = tail.communicate(timeout=30)
        assert (tail.returncode, rest, errors) == (0, "", "")
    assert {line.split()[0] for line in lines} == {f"{p}:{offset}" for p in (0, 1) for offset in range(45)}
    assert not any(SECRET in line for line in lines)
    rows = json.loads(run("stats", "--from", "5m", "--by", "partition", "--json", **settings).stdout)
    assert [rows[name]["records"] for name in rows] == [50, 50, 100]
    assert rows["all"]["dead_letters"] == 10
    assert 0 < rows["all"]["p50_s"] <= rows["all"]["p99_s"] <= rows["all"]["max_s"] < 60
    table = run("stats", **settings).stdout
    assert "pad" in table
    assert " 100 " in table
    dead = ["tail", "dead-letters", "--from", "earliest"]
    assert SECRET not in first_lines(dead, 10, settings)
    assert SECRET in first_lines([*dead, "--values"], 10, settings)
    assert first_lines(["tail", "metrics", "--from", "1h"], 1, settings).count("records") == 1


def first_lines(arguments: list[str], count: int, settings: dict[str, str]) -> str:
    """The first lines of a command whose reader then goes away, as `head` does; that is no error."""
    with started(arguments, settings) as process:
        assert process.stdout
        assert process.stderr
        shown = "".join(process.stdout.readline() for _ in range(count))
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait() == 0
    return shown


def started(arguments: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
    """A command of ours in the background, both its outputs in pipes."""
    pipe = subprocess.PIPE
    command = [*STREAMGAUGE, *arguments]
    return subprocess.Popen(command, env=QUIET_ENVIRONMENT | settings, stdout=pipe, stderr=pipe, text=True)
