"""One SQLite file, asked and filled a whole table at a time.

Rows go in and out as one JSON value a statement: SQLite then does a whole batch in one step, for which Python's lock is
released. A step a row would wait for that lock each time, up to 5 ms while the other thread is busy.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streamgauge.errors import ConfigurationError

OLDEST_SQLITE = (3, 35)
LOCK_TIMEOUT_S = 5.0
CACHE_KIB = 65_536
CHECKPOINT_PAGES = 16_384
"""Of 4 KiB: how large the write-ahead log grows before it is worked into the file."""
PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "temp_store = MEMORY",
    f"cache_size = -{CACHE_KIB}",
    f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    f"journal_size_limit = {CHECKPOINT_PAGES * 4096}",
)

APPLICATION_ID = 0x53474C53
"""In the file's header, by which it is known as ours: https://www.sqlite.org/fileformat2.html#application_id"""

encode_json = msgspec.json.Encoder().encode


def is_foreign(path: Path) -> bool:
    """Whether this file holds anything that is not ours, by its header: the rest may be broken. Raises OSError."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except FileNotFoundError:
        return False
    ours = header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:]) == APPLICATION_ID
    return bool(header) and not ours


class Database:
    """One open file. It stays locked for this process until it is closed; all calls come one at a time."""

    def __init__(self, path: Path, schema: str, layout: int) -> None:
        """Open the file; if it is new, make the tables of `schema` and note their `layout`.

        Raises sqlite3.Error, ConfigurationError.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; it must be 3.35 or later")
        self._db = sqlite3.connect(path, LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            # The first of all, so that it is in the file and not only in the write-ahead log.
            for pragma in (f"application_id = {APPLICATION_ID}", *PRAGMAS):
                self._db.execute(f"PRAGMA {pragma}")
            with self.transaction():
                self.is_new = not self.one("SELECT count(*) FROM sqlite_master")
                if self.is_new:
                    for statement in schema.split(";\n"):
                        self.execute(statement)
                    self.execute(f"PRAGMA user_version = {layout}")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def layout(self) -> int:
        return int(self.one("PRAGMA user_version"))

    def broken(self) -> str | None:
        """What is wrong with the file's pages, if anything; reads all of them."""
        verdict = str(self.one("PRAGMA quick_check(1)"))
        return None if verdict == "ok" else verdict

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._db.execute(sql, parameters)

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The only value of the only row."""
        return self._db.execute(sql, parameters).fetchone()[0]

    def read(self, columns: str, source: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows of a table or subquery, each a list of these columns."""
        rows = self.one(f"SELECT json_group_array(json_array({columns})) FROM {source}", parameters)
        return list(msgspec.json.decode(rows))

    def write(self, table: str, columns: int, rows: Sequence[Any], on_conflict: str) -> None:
        """Insert rows, each a sequence of all columns; where the key exists, update it by `on_conflict`."""
        sql = (
            f"INSERT INTO {table} SELECT {elements(columns)} FROM json_each(?) WHERE true"
            f" ON CONFLICT DO UPDATE SET {on_conflict}"
        )
        self.execute(sql, (encode_json(rows).decode(),))


def elements(columns: int) -> str:
    """The elements of a row that is a JSON array."""
    return ", ".join(f"json_extract(value, '$[{index}]')" for index in range(columns))
