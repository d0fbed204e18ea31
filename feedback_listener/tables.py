"""The tables of the listener's store, and the SQL that reads and writes them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from feedback_listener.audit import AuditMinute
from feedback_listener.database import Database, elements, encode_json
from feedback_listener.join import LABEL_LEAD_MS, Changes, Horizons
from feedback_listener.records import Kind, LabelRow, PredictionRow, RecordBatch, Refusal, Stream
from feedback_listener.tally import CountKey, LabelOutcome, Tally
from feedback_listener.totals import LabelsAndRefusals, Positions

LAYOUT = 4
"""Of schema.sql and of the definitions in join.py: what counts otherwise is another layout."""
GENERATION_ROWS = 500_000
PREDICTION = "id, at_ms, partition, offset, kind, predicted, bin, units"
LABEL = "at_ms, partition, offset, id, value, source"
KEYS = len(CountKey._fields)
OUTCOMES = tuple(outcome.value for outcome in LabelOutcome)
SCORED = ("predictions", "confidence")
AUDITED = ("predictions", "confidence", "judged", '"right"', "judged_in_time", "right_in_time")
CELL = ("expected", "predicted", "bin")
AMOUNTS = ("judged", "confidence", "brier", "delay")

_predictions = msgspec.json.Decoder(list[PredictionRow]).decode
_strings = msgspec.json.Decoder(list[str]).decode
_labels = msgspec.json.Decoder(list[LabelRow]).decode


class Tables(Database):
    """What one listener knows."""

    def __init__(self, path: Path) -> None:
        """Open the file, with the tables in it if it is new. Raises sqlite3.Error, ConfigurationError."""
        schema = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        super().__init__(path, schema, LAYOUT)

    # What the whole file is

    def identity(self) -> tuple[str, int] | None:
        """Whose cache this is, and the now of its numbers; None for one that was never written."""
        found = self.read("description, now_ms", "identity")
        return (str(found[0][0]), int(found[0][1])) if found else None

    def positions(self) -> Positions:
        found = self.read("stream, partition, next_offset", "positions")
        return {(Stream(stream), partition): offset for stream, partition, offset in found}

    def move(self, identity: str, positions: Positions, now_ms: int) -> None:
        """Say whose cache this is, of which moment, and how far it has come."""
        self.execute("DELETE FROM identity")
        self.execute("INSERT INTO identity VALUES (?, ?)", (identity, now_ms))
        rows = [(*key, offset) for key, offset in positions.items()]
        self.write("positions", 3, rows, "next_offset = excluded.next_offset")

    def kinds(self) -> list[Kind]:
        return [
            Kind(model, tuple(classes))
            for model, classes in self.read("model, json(classes)", "(SELECT * FROM kinds ORDER BY number)")
        ]

    def add_kinds(self, kinds: Iterable[tuple[int, Kind]]) -> None:
        """With their numbers."""
        for number, kind in kinds:
            self.execute("INSERT INTO kinds VALUES (?, ?, ?)", (number, kind.model, encode_json(kind.classes).decode()))

    # Rows

    def predictions_of(self, ids: Iterable[str], horizons: Horizons, last_ms: int) -> list[PredictionRow]:
        """The predictions of these ids that matter, up to `last_ms`."""
        columns = f"json_array({PREDICTION.replace('units', 'json(units)')})"
        return _predictions(self._found("results", columns, "predictions", ids, horizons.predictions_ms, last_ms))

    def labels_of(self, ids: Iterable[str], horizons: Horizons) -> list[LabelRow]:
        """The labels of these ids that can matter to a retained prediction."""
        return _labels(self._found("feedback", f"json_array({LABEL})", "labels", ids, horizons.labels_ms))

    def labelled(self, predictions: Sequence[PredictionRow]) -> set[str]:
        """The ids among these predictions' for which there are labels that may judge one of them."""
        if not predictions:
            return set()
        first_ms = min(prediction.at_ms for prediction in predictions) - LABEL_LEAD_MS
        return set(_strings(self._found("feedback", "id", "labels", {p.id for p in predictions}, first_ms)))

    def insert(self, batch: RecordBatch) -> None:
        """Add rows to the newest generation, or begin one."""
        self._insert(Stream.RESULTS, PREDICTION, "predictions", batch.predictions)
        self._insert(Stream.FEEDBACK, LABEL, "labels", batch.labels)

    def _found(
        self, stream: str, what: str, table: str, ids: Iterable[str], first_ms: int, last_ms: int = 2**62
    ) -> str:
        """JSON of what is found for these ids and times, in the generations that reach so far."""
        wanted = sorted(ids)  # neighbours stand on the same pages
        if not wanted:
            return "[]"
        source = f"(SELECT value AS wanted FROM json_each(?)) CROSS JOIN generations CROSS JOIN {table}"
        where = "stream = ? AND newest_ms >= ? AND generation = number AND id = wanted AND at_ms BETWEEN ? AND ?"
        parameters = encode_json(wanted).decode(), stream, first_ms, first_ms, last_ms
        return str(self.one(f"SELECT json_group_array({what}) FROM {source} WHERE {where}", parameters))

    def _insert(self, stream: Stream, columns: str, table: str, items: Sequence[PredictionRow | LabelRow]) -> None:
        if not items:
            return
        newest = self.read(
            "number, rows", "(SELECT * FROM generations WHERE stream = ? ORDER BY number DESC LIMIT 1)", (stream,)
        )
        number, rows = newest[0] if newest else (0, 0)
        if rows >= GENERATION_ROWS:
            number += 1
        self.execute(
            "INSERT INTO generations VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows,"
            " newest_ms = max(newest_ms, excluded.newest_ms)",
            (stream, number, len(items), max(item.at_ms for item in items)),
        )
        values = elements(columns.count(",") + 1)
        self.execute(
            f"INSERT INTO {table} (generation, {columns}) SELECT ?, {values} FROM json_each(?)",
            (number, encode_json(sorted(items, key=attrgetter("id"))).decode()),
        )

    # Sums

    def sums(self, first_minute: int, end_minute: int = 2**62) -> dict[CountKey, Tally]:
        """The sums over the predictions of some minutes."""
        found: dict[CountKey, Tally] = defaultdict(Tally)
        minutes = first_minute, end_minute
        for row in self._summed("scored", (*CountKey._fields, "bin"), SCORED, minutes):
            found[CountKey(*row[:KEYS])].score(*row[KEYS:])
        for row in self._summed("outcomes", CountKey._fields, OUTCOMES, minutes):
            found[CountKey(*row[:KEYS])].labels.update(dict(zip(LabelOutcome, row[KEYS:], strict=True)))
        for *key, bucket, judged in self._summed("delays", (*CountKey._fields, "bucket"), ("judged",), minutes):
            found[CountKey(*key)].delays[bucket] = judged
        for row in self._summed("cells", (*CountKey._fields, *CELL), AMOUNTS, minutes):
            expected, predicted, number, judged, confidence, brier, delay = row[KEYS:]
            amounts = judged, confidence, brier, delay
            found[CountKey(*row[:KEYS])].add((expected, predicted, number), amounts)
        return dict(found)

    def _summed(self, table: str, by: Sequence[str], sums: Sequence[str], minutes: tuple[int, int]) -> list[Any]:
        """Sums of columns over the minutes from the first to before the second: rows of `by`, then `sums`."""
        grouped = ", ".join(by)
        summed = ", ".join(f"sum({column}) AS {column}" for column in sums)
        rows = f"SELECT {grouped}, {summed} FROM {table} WHERE minute >= ? AND minute < ? GROUP BY {grouped}"
        return self.read(", ".join((*by, *sums)), f"({rows})", minutes)

    def audits(self, first_minute: int) -> dict[tuple[int, str], AuditMinute]:
        """By minute and model, from a minute on."""
        rows = self.read(f"minute, model, {', '.join(AUDITED)}", "audits WHERE minute >= ?", (first_minute,))
        return {(minute, model): AuditMinute(*sums) for minute, model, *sums in rows}

    def labels_and_refusals(self, horizons: Horizons) -> LabelsAndRefusals:
        """What counts of them at the moment of `horizons`."""
        matches = self.read("hour, partition, prediction_hour, labels", "matches")
        refusals = self.read("stream, partition, minute, reason, records", "refusals")
        found = LabelsAndRefusals()
        found.add(
            horizons,
            dict(self.read("hour, labels", "label_counts")),
            {(hour, partition, prediction_hour): n for hour, partition, prediction_hour, n in matches},
            {
                (Stream(stream), partition, minute, Refusal(reason)): n
                for stream, partition, minute, reason, n in refusals
            },
        )
        return found

    def delete(self, predictions: Sequence[PredictionRow], labels: Sequence[LabelRow]) -> None:
        """Delete rows, of whatever generation."""
        for stream, table, rows in ((Stream.RESULTS, "predictions", predictions), (Stream.FEEDBACK, "labels", labels)):
            if rows:
                keys = [(row.id, row.partition, row.offset) for row in rows]
                source = f"SELECT number, {elements(3)} FROM json_each(?) CROSS JOIN generations WHERE stream = ?"
                self.execute(
                    f'DELETE FROM {table} WHERE (generation, id, partition, "offset") IN ({source})',
                    (encode_json(keys).decode(), stream),
                )

    def add(self, changes: Changes) -> None:
        """Count what changes."""
        tallies = changes.tallies.items()
        scored = [
            (minute, *key, number, *sums) for (minute, key), tally in tallies for number, sums in tally.scored.items()
        ]
        outcomes = [
            (minute, *key, *(tally.labels[outcome] for outcome in LabelOutcome))
            for (minute, key), tally in tallies
            if any(tally.labels.values())
        ]
        delays = [(minute, *key, *each) for (minute, key), tally in tallies for each in tally.delays.items()]
        cells = [(minute, *key, *cell, *what) for (minute, key), tally in tallies for cell, what in tally.cells.items()]
        refusals = [
            (minute, stream, partition, reason, n)
            for (stream, partition, minute, reason), n in changes.refusals.items()
        ]
        self._add("scored", SCORED, scored)
        self._add("outcomes", OUTCOMES, outcomes)
        self._add("delays", ("judged",), delays)
        self._add("audits", AUDITED, [(*key, *sums) for key, sums in changes.audits.items()])
        self._add("cells", AMOUNTS, cells)
        self._add("label_counts", ("labels",), list(changes.labels.items()))
        self._add("matches", ("labels",), [(*key, n) for key, n in changes.matches.items() if n])
        self._add("refusals", ("records",), refusals)

    def _add(self, table: str, sums: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.write(
                table, len(rows[0]), rows, ", ".join(f"{column} = {column} + excluded.{column}" for column in sums)
            )

    def expire(self, horizons: Horizons) -> None:
        """Delete what is in no number any more."""
        for table in ("scored", "outcomes", "delays", "cells", "audits", "refusals"):
            self.execute(f"DELETE FROM {table} WHERE minute < ?", (horizons.retained,))
        for table in ("label_counts", "matches"):
            self.execute(f"DELETE FROM {table} WHERE hour < ?", (horizons.old_hour,))
        self.execute("DELETE FROM matches WHERE prediction_hour < ?", (horizons.matching_hour,))
        for stream, table, first_ms in (
            (Stream.RESULTS, "predictions", horizons.predictions_ms),
            (Stream.FEEDBACK, "labels", horizons.labels_ms),
        ):
            expired = stream, first_ms
            of = "FROM generations WHERE stream = ? AND newest_ms < ?"
            self.execute(f"DELETE FROM {table} WHERE generation IN (SELECT number {of})", expired)
            self.execute(f"DELETE {of}", expired)
