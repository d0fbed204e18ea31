"""The SQL of the listener's store.

Rows go in and out as one JSON value a statement: SQLite then does a whole batch in one step, for which Python's lock is
released. A step a row would wait for that lock each time, up to 5 ms while the other thread is busy.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from feedback_listener.join import LABEL_LEAD_MS, Changes, Kind, Label, Prediction, Starts, Stream
from feedback_listener.numbers import Beside, Positions, Series
from feedback_listener.tally import Outcome, Tally
from feedback_listener.wire import Batch, Refusal
from streamgauge.errors import ConfigurationError

LAYOUT = 1
"""Of schema.sql and of the definitions in join.py: what counts otherwise is another layout."""
GENERATION_ROWS = 500_000
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
PREDICTION = "id, at_ms, partition, offset, kind, predicted, bin, units"
LABEL = "at_ms, partition, offset, id, value, source"
COUNTS = ("predictions", *(outcome.value for outcome in Outcome))
CELL = "expected, predicted, bin"
AMOUNTS = ("judged", "confidence", "brier", "delay")

_json = msgspec.json.Encoder().encode
_predictions = msgspec.json.Decoder(list[Prediction]).decode
_strings = msgspec.json.Decoder(list[str]).decode
_labels = msgspec.json.Decoder(list[Label]).decode


class Tables:
    """One open file. It stays locked for this process until it is closed; all calls come one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, with the tables in it if it is new. Raises sqlite3.Error, ConfigurationError."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; it must be 3.35 or later")
        self._db = sqlite3.connect(path, LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            with self.transaction():
                self.is_new = not self._one("SELECT count(*) FROM sqlite_master")
                if self.is_new:
                    for statement in files(__package__).joinpath("schema.sql").read_text(encoding="utf-8").split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {LAYOUT}")
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def layout(self) -> int:
        return int(self._one("PRAGMA user_version"))

    def broken(self) -> str | None:
        """What is wrong with the file's pages, if anything; reads all of them."""
        verdict = str(self._one("PRAGMA quick_check(1)"))
        return None if verdict == "ok" else verdict

    # What the whole file is

    def identity(self) -> tuple[str, int] | None:
        """Whose cache this is, and the now of its numbers; None for one that was never written."""
        found = self._read("description, now_ms", "identity")
        return (str(found[0][0]), int(found[0][1])) if found else None

    def positions(self) -> Positions:
        found = self._read("stream, partition, next_offset", "positions")
        return {(Stream(stream), partition): offset for stream, partition, offset in found}

    def move(self, identity: str, positions: Positions, now_ms: int) -> None:
        """Say whose cache this is, of which moment, and how far it has come."""
        self._db.execute("DELETE FROM identity")
        self._db.execute("INSERT INTO identity VALUES (?, ?)", (identity, now_ms))
        rows = [(*key, offset) for key, offset in positions.items()]
        self._write("positions", 3, rows, "next_offset = excluded.next_offset")

    def kinds(self) -> list[Kind]:
        return [
            Kind(model, tuple(classes))
            for model, classes in self._read("model, json(classes)", "(SELECT * FROM kinds ORDER BY number)")
        ]

    def add_kinds(self, kinds: Iterable[tuple[int, Kind]]) -> None:
        """With their numbers."""
        for number, kind in kinds:
            self._db.execute("INSERT INTO kinds VALUES (?, ?, ?)", (number, kind.model, json.dumps(kind.classes)))

    # Rows

    def predictions_of(self, ids: Iterable[str], starts: Starts) -> list[Prediction]:
        """The predictions of these ids that matter."""
        columns = f"json_array({PREDICTION.replace('units', 'json(units)')})"
        return _predictions(self._found("results", columns, "predictions", ids, starts.predictions_ms))

    def labels_of(self, ids: Iterable[str], starts: Starts) -> list[Label]:
        """The labels of these ids that can matter to a retained prediction."""
        return _labels(self._found("feedback", f"json_array({LABEL})", "labels", ids, starts.labels_ms))

    def labelled(self, predictions: Sequence[Prediction]) -> set[str]:
        """The ids among these predictions' for which there are labels that may judge one of them."""
        if not predictions:
            return set()
        first_ms = min(prediction.at_ms for prediction in predictions) - LABEL_LEAD_MS
        return set(_strings(self._found("feedback", "id", "labels", {p.id for p in predictions}, first_ms)))

    def insert(self, batch: Batch) -> None:
        """Add rows to the newest generation, or begin one."""
        self._insert(Stream.RESULTS, PREDICTION, "predictions", batch.predictions)
        self._insert(Stream.FEEDBACK, LABEL, "labels", batch.labels)

    def _found(self, stream: str, what: str, table: str, ids: Iterable[str], first_ms: int) -> str:
        """JSON of what is found for these ids, not older than `first_ms`, in the generations that reach so far."""
        wanted = sorted(ids)  # neighbours stand on the same pages
        if not wanted:
            return "[]"
        source = f"(SELECT value AS wanted FROM json_each(?)) CROSS JOIN generations CROSS JOIN {table}"
        where = "stream = ? AND newest_ms >= ? AND generation = number AND id = wanted AND at_ms >= ?"
        parameters = _json(wanted).decode(), stream, first_ms, first_ms
        return str(self._one(f"SELECT json_group_array({what}) FROM {source} WHERE {where}", parameters))

    def _insert(self, stream: Stream, columns: str, table: str, items: Sequence[Prediction | Label]) -> None:
        if not items:
            return
        newest = self._read(
            "number, rows", "(SELECT * FROM generations WHERE stream = ? ORDER BY number DESC LIMIT 1)", (stream,)
        )
        number, rows = newest[0] if newest else (0, 0)
        if rows >= GENERATION_ROWS:
            number += 1
        self._db.execute(
            "INSERT INTO generations VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows,"
            " newest_ms = max(newest_ms, excluded.newest_ms)",
            (stream, number, len(items), max(item.at_ms for item in items)),
        )
        values = _values(columns.count(",") + 1)
        self._db.execute(
            f"INSERT INTO {table} (generation, {columns}) SELECT ?, {values} FROM json_each(?)",
            (number, _json(sorted(items, key=attrgetter("id"))).decode()),
        )

    # Sums

    def sums(self, first_minute: int, end_minute: int = 2**62) -> dict[Series, Tally]:
        """The sums over the predictions of some minutes."""
        found: dict[Series, Tally] = {}
        sums = ", ".join(f"sum({column}) AS {column}" for column in COUNTS)
        for model, partition, predictions, *outcomes in self._read(
            f"model, partition, {', '.join(COUNTS)}",
            f"(SELECT model, partition, {sums} FROM tallies WHERE minute >= ? AND minute < ? GROUP BY 1, 2)",
            (first_minute, end_minute),
        ):
            tally = found[model, partition] = Tally()
            tally.predictions = predictions
            tally.labels.update(dict(zip(Outcome, outcomes, strict=True)))
        sums = ", ".join(f"sum({column}) AS {column}" for column in AMOUNTS)
        for model, partition, expected, predicted, number, *amounts in self._read(
            f"model, partition, {CELL}, {', '.join(AMOUNTS)}",
            f"(SELECT model, partition, {CELL}, {sums} FROM cells WHERE minute >= ? AND minute < ?"
            " GROUP BY 1, 2, 3, 4, 5)",
            (first_minute, end_minute),
        ):
            judged, confidence, brier, delay = amounts
            found[model, partition].add((expected, predicted, number), (judged, confidence, brier, delay))
        return found

    def beside(self, starts: Starts) -> Beside:
        """What is counted beside the predictions, at the moment of `starts`."""
        matches = self._read("hour, partition, prediction_hour, labels", "matches")
        refusals = self._read("stream, partition, minute, reason, records", "refusals")
        found = Beside()
        found.add(
            starts,
            dict(self._read("hour, labels", "label_counts")),
            {(hour, partition, prediction_hour): n for hour, partition, prediction_hour, n in matches},
            {
                (Stream(stream), partition, minute, Refusal(reason)): n
                for stream, partition, minute, reason, n in refusals
            },
        )
        return found

    def add(self, batch: Batch, changes: Changes) -> None:
        """Count a batch and what it changes."""
        tallies = changes.tallies.items()
        counts = [(*at, tally.predictions, *(tally.labels[outcome] for outcome in Outcome)) for at, tally in tallies]
        cells = [(*at, *cell, *what) for at, tally in tallies for cell, what in tally.cells.items()]
        refusals = [
            (minute, stream, partition, reason, n) for (stream, partition, minute, reason), n in batch.refusals.items()
        ]
        self._add("tallies", COUNTS, counts)
        self._add("cells", AMOUNTS, cells)
        self._add("label_counts", ("labels",), list(batch.label_counts().items()))
        self._add("matches", ("labels",), [(*key, n) for key, n in changes.matches.items() if n])
        self._add("refusals", ("records",), refusals)

    def _add(self, table: str, sums: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self._write(
                table, len(rows[0]), rows, ", ".join(f"{column} = {column} + excluded.{column}" for column in sums)
            )

    def expire(self, starts: Starts) -> None:
        """Delete what is in no number any more."""
        for table in ("tallies", "cells", "refusals"):
            self._db.execute(f"DELETE FROM {table} WHERE minute < ?", (starts.retained,))
        for table in ("label_counts", "matches"):
            self._db.execute(f"DELETE FROM {table} WHERE hour < ?", (starts.old_hour,))
        self._db.execute("DELETE FROM matches WHERE prediction_hour < ?", (starts.matching_hour,))
        for stream, table, first_ms in (
            (Stream.RESULTS, "predictions", starts.predictions_ms),
            (Stream.FEEDBACK, "labels", starts.labels_ms),
        ):
            expired = stream, first_ms
            of = "FROM generations WHERE stream = ? AND newest_ms < ?"
            self._db.execute(f"DELETE FROM {table} WHERE generation IN (SELECT number {of})", expired)
            self._db.execute(f"DELETE {of}", expired)

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._db.execute(sql, parameters).fetchone()[0]

    def _read(self, columns: str, source: str, parameters: Sequence[Any] = ()) -> list[Any]:
        rows = self._one(f"SELECT json_group_array(json_array({columns})) FROM {source}", parameters)
        return list(msgspec.json.decode(rows))

    def _write(self, table: str, columns: int, rows: Sequence[Any], on_conflict: str) -> None:
        values = _values(columns)
        sql = (
            f"INSERT INTO {table} SELECT {values} FROM json_each(?) WHERE true ON CONFLICT DO UPDATE SET {on_conflict}"
        )
        self._db.execute(sql, (_json(rows).decode(),))


def _values(columns: int) -> str:
    """The elements of a row that is a JSON array."""
    return ", ".join(f"json_extract(value, '$[{index}]')" for index in range(columns))
