"""The join's state: rows, sums per minute and positions in one SQLite transaction, and the numbers in memory.

The file is a cache of the topics. One that cannot be this listener's is thrown away and filled again, never migrated.
All calls come from one thread; `totals` may be read in any.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from feedback_listener.database import is_foreign
from feedback_listener.decoding import Kinds
from feedback_listener.join import HOUR_MS, LABEL_LEAD_MS, Changes, Horizons, OneId
from feedback_listener.minute_log import MinuteLog
from feedback_listener.records import LabelRow, PredictionRow, RecordBatch, Refusal, Stream
from feedback_listener.tables import LAYOUT, Tables
from feedback_listener.tally import MINUTE_MS, CountKey, LabelOutcome, Tally
from feedback_listener.totals import Positions, Totals
from streamgauge.errors import ConfigurationError, StreamgaugeError

SETTING = "STREAMGAUGE_LISTENER_STORE"
PRIMARY_CODE = 0xFF
"""SQLite's extended result codes carry the primary one in their lowest byte."""

FROM_THE_FUTURE = "it comes from the future: a clock was wrong, and what expired may have to come back"

T = TypeVar("T", PredictionRow, LabelRow)


class StoreUnusable(Exception):  # noqa: N818 - it is an answer: begin anew
    """The file is not this listener's, or is broken: throw it away and read the topics again."""


class Store:
    """The state of one listener, and the numbers that follow from it."""

    def __init__(
        self,
        path: Path,
        identity: str,
        window_ms: int,
        now_ms: int,
        warnings: MinuteLog | None = None,
        maturity_ms: int = HOUR_MS,
    ) -> None:
        """Open or create the file; `identity` says what it is a cache of.

        Raises StoreUnusable, ConfigurationError when another process has the file open or it is no store of ours,
        StreamgaugeError when it cannot be written.
        """
        self.path = path
        self.totals = Totals()
        self.kinds = Kinds()
        """Totals the kinds of the predictions that `apply` takes."""
        self._identity = identity
        self._window_ms, self._maturity_ms = window_ms, maturity_ms
        self._warnings = warnings or MinuteLog()
        prepare(path)
        with _named_errors(path):
            self._tables = Tables(path)
            try:
                self._check(now_ms)
                self._load(now_ms)
            except BaseException:
                self._tables.close()
                raise

    def close(self) -> None:
        """Close the file; every batch that was applied is in it."""
        with _named_errors(self.path):
            self._tables.close()

    def size_bytes(self) -> int:
        """Of the file and its write-ahead log."""
        total = 0
        for file in _files(self.path):
            with suppress(FileNotFoundError):
                total += file.stat().st_size
        return total

    def apply(self, batch: RecordBatch, positions: Positions, now_ms: int) -> None:
        """Apply records, move to `positions` and let time pass, all or nothing.

        Every record is applied once: it lies at or after the position of its partition. Raises what `__init__` raises;
        StoreUnusable also when time goes back by more than a minute, less is taken for no time at all.
        """
        if now_ms < self.totals.now_ms - MINUTE_MS:
            raise StoreUnusable(FROM_THE_FUTURE)
        now_ms = max(now_ms, self.totals.now_ms)
        horizons = Horizons.at(now_ms, self._window_ms, self._maturity_ms)
        if positions == self.totals.positions and horizons == self.totals.horizons:
            with self.totals.lock:
                self.totals.now_ms = now_ms
            return
        batch = batch.since(horizons.predictions_ms, horizons.labels_ms)
        with _named_errors(self.path), self._tables.transaction():
            leaving = self._leaving(horizons)
            changes = self._changes(batch, horizons)
            self._write(batch, changes, horizons, positions, now_ms)
            others = self._tables.labels_and_refusals(horizons) if horizons != self.totals.horizons else None
        with self.totals.lock:
            for window, sums in enumerate(leaving):
                for key, tally in sums.items():
                    self.totals.merge(window, key, tally, -1)
            self.totals.add(horizons, changes)
            if others:
                self.totals.labels_and_refusals = others
            else:
                self.totals.labels_and_refusals.add(horizons, changes.labels, changes.matches, changes.refusals)
            self._note(horizons, positions, now_ms)

    def _check(self, now_ms: int) -> None:
        tables = self._tables
        if tables.is_new:
            return
        if tables.layout() != LAYOUT:
            raise StoreUnusable(f"its layout is {tables.layout()}, not {LAYOUT}")
        if broken := tables.broken():
            raise StoreUnusable(broken)
        found = tables.identity()
        if found and found[0] != self._identity:
            raise StoreUnusable(f"it is a cache of {found[0]}, not of {self._identity}")
        if found and now_ms < found[1] - MINUTE_MS:
            raise StoreUnusable(FROM_THE_FUTURE)

    def _load(self, now_ms: int) -> None:
        """Show what the file holds, of the moment that it was written in or of now."""
        found = self._tables.identity()
        now_ms = max(now_ms, found[1]) if found else now_ms
        horizons = Horizons.at(now_ms, self._window_ms, self._maturity_ms)
        self.kinds = Kinds(self._tables.kinds())
        self._stored_kinds = len(self.kinds)
        for window, start in enumerate(horizons.windows):
            for key, tally in self._tables.sums(start).items():
                self.totals.merge(window, key, tally)
        self.totals.add_audits(horizons, self._tables.audits(horizons.retained))
        self.totals.labels_and_refusals = self._tables.labels_and_refusals(horizons)
        self._note(horizons, self._tables.positions(), now_ms)

    def _note(self, horizons: Horizons, positions: Positions, now_ms: int) -> None:
        self.totals.horizons = horizons
        self.totals.now_ms = now_ms
        self.totals.positions = dict(positions)

    def _leaving(self, horizons: Horizons) -> list[dict[CountKey, Tally]]:
        """For each window, the sums over the minutes that it leaves behind."""
        moved = zip(self.totals.horizons.windows, horizons.windows, strict=True)
        return [self._tables.sums(old, new) if old != new else {} for old, new in moved]

    def _changes(self, batch: RecordBatch, horizons: Horizons) -> Changes:
        """What the batch does: of each id that has labels, retract what was counted, and count what is now."""
        changes = Changes(self.kinds, horizons)
        changes.add_batch(batch)
        labels_new = _by_id(batch.labels)
        labelled = self._tables.labelled(batch.predictions) | labels_new.keys()
        found = self._tables.labels_of(labelled, horizons)
        last_ms = max((label.at_ms for label in (*found, *batch.labels)), default=0) + LABEL_LEAD_MS
        labels_before = _by_id(found)
        before = _by_id(self._tables.predictions_of(labelled, horizons, last_ms))
        new = _by_id(prediction for prediction in batch.predictions if prediction.id in labelled)
        for name in labelled:
            predictions, labels = before.get(name, []), labels_before.get(name, [])
            changes.judge(
                OneId(predictions, sorted(labels)),
                OneId(predictions + new.get(name, []), sorted(labels + labels_new.get(name, []))),
            )
        self._warn(changes)
        return changes

    def _warn(self, changes: Changes) -> None:
        unknown = sum(tally.labels[LabelOutcome.UNKNOWN_CLASS] for tally in changes.tallies.values())
        if unknown > 0 and changes.unknown_label:
            self._warnings.warn("label.unknown_class", unknown, changes.unknown_label)
        crowded: dict[Stream, list[PredictionRow | LabelRow]] = {}
        for prediction in changes.crowded_predictions:
            stream, partition = prediction.refused_in
            crowded.setdefault(stream, []).append(msgspec.structs.replace(prediction, partition=partition))
        crowded.setdefault(Stream.FEEDBACK, []).extend(changes.crowded_labels)
        for stream, rows in crowded.items():
            for row in rows[:1]:
                self._warnings.warn("record.refused", len(rows), row, stream=stream, reason=Refusal.CROWDED_ID)

    def _write(
        self, batch: RecordBatch, changes: Changes, horizons: Horizons, positions: Positions, now_ms: int
    ) -> None:
        tables = self._tables
        if horizons != self.totals.horizons:
            tables.expire(horizons)
        # Another thread may be adding kinds for the next batch.
        kinds = list(enumerate(self.kinds))[self._stored_kinds :]
        tables.add_kinds(kinds)
        self._stored_kinds += len(kinds)
        tables.insert(batch)
        tables.delete(changes.crowded_predictions, changes.crowded_labels)
        tables.add(changes)
        tables.move(self._identity, positions, now_ms)


def prepare(path: Path) -> None:
    """Make a file for a store, unless there is one. Raises ConfigurationError when another program's stands there,
    StreamgaugeError when none can be made.
    """
    with _named_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_foreign(path):
            what = "not a listener's store: name another file. A store from before 0.2.0 may be removed"
            raise ConfigurationError(f"{SETTING}={path}: {what}")
        path.touch(mode=0o600)


def discard(path: Path) -> None:
    """Delete a store; it need not exist."""
    for file in _files(path):
        file.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))]


def _by_id(items: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(item.id, []).append(item)
    return found


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as what they mean here."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
        if code == sqlite3.SQLITE_BUSY:
            raise ConfigurationError(
                f"{SETTING}={path}: another listener has it open; give each a file of its own: --store FILE"
            ) from None
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise StreamgaugeError(
                f"{SETTING}={path}: {error}; it is a cache, and goes on when there is room"
            ) from None
        raise StoreUnusable(str(error)) from error
    except msgspec.MsgspecError as error:
        raise StoreUnusable(f"a row cannot be read: {error}") from error
    except OSError as error:
        raise StreamgaugeError(f"{SETTING}={path}: {error.strerror}") from None
