"""The listener's store: whose it is, what makes it unusable, and what it survives."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest

from feedback_listener.decoding import ScoredBy
from feedback_listener.records import Kind
from feedback_listener.store import Store, StoreUnusable, discard
from streamgauge.errors import ConfigurationError, StreamgaugeError
from tests.cluster import ROOT
from tests.replica import Replica
from tests.truth import DAY_MS, HOUR_MS, MINUTE_MS, Labelled, Record, Scored

NOW_MS = 1_800_000_012_345
WINDOW_MS = 7 * DAY_MS


def history(count: int, at_ms: int = NOW_MS) -> list[Record]:
    scored = [Scored(str(n), 0, n, at_ms, "x", {"x": 0.75, "y": 0.25}) for n in range(count)]
    labelled = [Labelled(str(n), 0, n, at_ms, "x" if n % 3 else "y") for n in range(count)]
    return [*scored, *labelled]


def filled(path: Path, count: int = 50) -> dict[tuple[object, ...], float]:
    """A closed store with something in it; returns its numbers."""
    replica = Replica(path, NOW_MS, WINDOW_MS)
    replica.apply(history(count), NOW_MS)
    shown = replica.exported()
    replica.store.close()
    return shown


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where no store is yet, in a folder that is not there yet."""
    return tmp_path / "cache" / "listener.sqlite"


def test_it_goes_on_where_it_was(path: Path) -> None:
    """The numbers, the positions and the kinds of predictions are those of before."""
    shown = filled(path)
    replica = Replica(path, NOW_MS, WINDOW_MS)
    assert replica.exported() == shown
    assert replica.missing(history(51)) == [record for record in history(51) if record.offset == 50]
    replica.store.close()


def test_kinds_that_come_while_a_batch_is_written_keep_their_numbers(path: Path) -> None:
    """The next batch is decoded in another thread meanwhile, and may meet a new model."""
    replica = Replica(path, NOW_MS, WINDOW_MS)
    tables, kinds = replica.store._tables, replica.store.kinds
    write = tables.add_kinds

    def write_and_meet_another(new: Iterable[tuple[int, Kind]]) -> None:
        write(new)
        kinds.number(ScoredBy("m", "2"), ("x",))

    with patch.object(tables, "add_kinds", write_and_meet_another):
        replica.apply([Scored("a", 0, 0, NOW_MS, "x", {"x": 1.0}, "m@1")], NOW_MS)
    for offset, model in ((1, "m@2"), (2, "m@3")):
        replica.apply([Scored(model, 0, offset, NOW_MS, "x", {"x": 1.0}, model)], NOW_MS)
    replica.restart(NOW_MS)
    replica.apply([Labelled(model, 0, offset, NOW_MS, "x") for offset, model in enumerate(("m@2", "m@3"))], NOW_MS)
    judged = {key[1] for key in replica.exported() if key[0] == "judged_predictions"}
    assert judged == {"m@2", "m@3"}
    replica.store.close()


def test_what_expired_while_it_was_down_is_gone(path: Path) -> None:
    """The numbers are of now, not of when the file was written."""
    filled(path)
    replica = Replica(path, NOW_MS + WINDOW_MS + HOUR_MS, WINDOW_MS)
    assert replica.exported() == {}
    replica.apply([], NOW_MS + WINDOW_MS + HOUR_MS + MINUTE_MS)
    assert replica.exported() == {}
    replica.store.close()


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("PRAGMA user_version = 999", "its layout is 999"),
        ("UPDATE identity SET description = 'another cluster'", "it is a cache of another cluster, not of a cluster"),
        (f"UPDATE identity SET now_ms = {NOW_MS + DAY_MS}", "it comes from the future"),
    ],
)
def test_what_is_not_this_listeners_is_refused(path: Path, sql: str, reason: str) -> None:
    """Another layout, another cluster or topic, a clock that was wrong: begin anew."""
    filled(path)
    with sqlite3.connect(path) as other:
        other.execute(sql)
    other.close()
    with pytest.raises(StoreUnusable, match=reason):
        Store(path, "a cluster", WINDOW_MS, NOW_MS)


def test_broken_pages_are_noticed(path: Path) -> None:
    """At the start, all of them."""
    filled(path, 5000)
    content = bytearray(path.read_bytes())
    for place in range(8192, len(content), 4096):
        content[place : place + 16] = b"\xde\xad\xbe\xef" * 4
    path.write_bytes(content)
    with pytest.raises(StoreUnusable):
        Store(path, "a cluster", WINDOW_MS, NOW_MS)
    discard(path)
    assert filled(path, 50)


def test_what_is_not_ours_is_refused_and_stays(path: Path) -> None:
    """A text, another program's database: whatever it is, the listener must not throw it away."""
    path.parent.mkdir()
    path.write_text("not a database")
    other = path.with_name("other")
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE orders (id)")
    database.close()
    for file in (path, other):
        content = file.read_bytes()
        with pytest.raises(ConfigurationError, match=f"{file}: not a listener's store"):
            Store(file, "a cluster", WINDOW_MS, NOW_MS)
        assert file.read_bytes() == content


def test_nobody_else_reads_a_store(tmp_path: Path) -> None:
    """Nor its write-ahead log, nor the folder that was made for it."""
    replica = Replica(tmp_path / "folder" / "listener.sqlite", NOW_MS, WINDOW_MS)
    replica.apply(history(3), NOW_MS)
    files = list((tmp_path / "folder").iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    replica.store.close()


def test_a_page_that_breaks_while_it_runs_is_noticed(path: Path) -> None:
    """Whatever statement meets it says that the store is unusable."""
    replica = Replica(path, NOW_MS, WINDOW_MS)
    replica.apply(history(5000), NOW_MS)
    replica.restart(NOW_MS)
    database = replica.store._tables._db
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'labels'")
    database.execute("PRAGMA writable_schema = RESET")
    labels: list[Record] = [Labelled(str(n), 0, 5000 + n, NOW_MS, "y") for n in range(100)]
    with pytest.raises(StoreUnusable):
        replica.apply(labels, NOW_MS)
    replica.store.close()


def test_a_second_process_is_refused(path: Path) -> None:
    """It says which setting to change; the first one does not notice."""
    replica = Replica(path, NOW_MS, WINDOW_MS)
    second = (
        "import sys; from pathlib import Path; from feedback_listener import database; database.LOCK_TIMEOUT_S = 0.1\n"
        "from feedback_listener.store import Store\n"
        f"Store(Path(sys.argv[1]), 'a cluster', {WINDOW_MS}, {NOW_MS})"
    )
    done = subprocess.run([sys.executable, "-c", second, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ConfigurationError: STREAMGAUGE_LISTENER_STORE=" in done.stderr
    assert "another listener has it open" in done.stderr
    replica.apply(history(3), NOW_MS)
    replica.store.close()


def test_a_full_disk_is_named_and_loses_nothing(path: Path) -> None:
    """The batch is not applied at all; with room again it goes on."""
    replica = Replica(path, NOW_MS, WINDOW_MS)
    replica.apply(history(10), NOW_MS)
    shown = replica.exported()
    replica.store._tables._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StreamgaugeError, match=r"STREAMGAUGE_LISTENER_STORE=.*full.*cache") as raised:
        replica.apply(replica.missing(history(50_000)), NOW_MS)
    assert not isinstance(raised.value, ConfigurationError)
    replica.restart(NOW_MS)
    assert replica.exported() == shown
    replica.apply(replica.missing(history(100)), NOW_MS)
    replica.store.close()
    assert filled(path.with_name("other"), 100) == {**replica.exported()}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Here a file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamgaugeError, match=r"STREAMGAUGE_LISTENER_STORE=.*file/listener\.sqlite"):
        Store(tmp_path / "file" / "listener.sqlite", "a cluster", WINDOW_MS, NOW_MS)


def test_generations_leave_when_all_in_them_has_expired(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week and a half of rows: those of the first days are deleted, and the file is used again."""
    monkeypatch.setattr("feedback_listener.tables.GENERATION_ROWS", 40)
    replica = Replica(path, NOW_MS, WINDOW_MS)
    for day in range(10):
        at_ms = NOW_MS + day * DAY_MS
        records = [record for record in history(40 * day + 40, at_ms) if record.offset >= 40 * day]
        replica.apply(records, at_ms)
    [[rows, generations]] = replica.store._tables._db.execute(
        "SELECT count(*), count(DISTINCT generation) FROM predictions"
    )
    assert (rows, generations) == (8 * 40, 8)
    assert replica.exported()["predictions", "m@1", 0, "all"] == 8 * 40
    assert replica.exported()["label_delay_seconds_gcount", "m@1", 0, "all"] == 8 * 40
    replica.store.close()
