-- The listener's cache: whatever changes here or in what is counted needs another LAYOUT in tables.py.
CREATE TABLE identity (description TEXT NOT NULL, now_ms INTEGER NOT NULL);

CREATE TABLE positions (stream TEXT, partition INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (stream, partition))
WITHOUT ROWID;

CREATE TABLE kinds (number INTEGER PRIMARY KEY, model TEXT NOT NULL, classes TEXT NOT NULL);

-- Rows come in generations of some hundred thousand. New rows go into the newest, whose part of the tree fits into
-- memory although ids come in any order; what has expired leaves a generation at a time.
CREATE TABLE generations (
    stream TEXT, number INTEGER, rows INTEGER NOT NULL, newest_ms INTEGER NOT NULL, PRIMARY KEY (stream, number)
) WITHOUT ROWID;

CREATE TABLE predictions (
    generation INTEGER, id TEXT, at_ms INTEGER NOT NULL, partition INTEGER, "offset" INTEGER,
    kind INTEGER NOT NULL, predicted INTEGER NOT NULL, bin INTEGER NOT NULL, units TEXT NOT NULL,
    PRIMARY KEY (generation, id, partition, "offset")
) WITHOUT ROWID;

CREATE TABLE labels (
    generation INTEGER, id TEXT, at_ms INTEGER NOT NULL, partition INTEGER, "offset" INTEGER,
    value TEXT NOT NULL, source TEXT,
    PRIMARY KEY (generation, id, partition, "offset")
) WITHOUT ROWID;

-- Everything counted stands under the minute or hour in which it leaves. `model, partition` is tally.CountKey.
CREATE TABLE scored (
    minute INTEGER, model TEXT, partition INTEGER, bin INTEGER, predictions INTEGER NOT NULL, confidence INTEGER NOT NULL,
    PRIMARY KEY (minute, model, partition, bin)
) WITHOUT ROWID;

CREATE TABLE outcomes (
    minute INTEGER, model TEXT, partition INTEGER,
    duplicate INTEGER NOT NULL, correction INTEGER NOT NULL, conflict INTEGER NOT NULL, unknown_class INTEGER NOT NULL,
    PRIMARY KEY (minute, model, partition)
) WITHOUT ROWID;

CREATE TABLE cells (
    minute INTEGER, model TEXT, partition INTEGER, expected TEXT, predicted TEXT, bin INTEGER,
    judged INTEGER NOT NULL, confidence INTEGER NOT NULL, brier INTEGER NOT NULL, delay INTEGER NOT NULL,
    PRIMARY KEY (minute, model, partition, expected, predicted, bin)
) WITHOUT ROWID;

CREATE TABLE delays (
    minute INTEGER, model TEXT, partition INTEGER, bucket INTEGER, judged INTEGER NOT NULL,
    PRIMARY KEY (minute, model, partition, bucket)
) WITHOUT ROWID;

CREATE TABLE audits (
    minute INTEGER, model TEXT, predictions INTEGER NOT NULL, confidence INTEGER NOT NULL, judged INTEGER NOT NULL,
    "right" INTEGER NOT NULL, judged_in_time INTEGER NOT NULL, right_in_time INTEGER NOT NULL,
    PRIMARY KEY (minute, model)
) WITHOUT ROWID;

CREATE TABLE label_counts (hour INTEGER PRIMARY KEY, labels INTEGER NOT NULL);

CREATE TABLE matches (
    hour INTEGER, partition INTEGER, prediction_hour INTEGER, labels INTEGER NOT NULL,
    PRIMARY KEY (hour, partition, prediction_hour)
) WITHOUT ROWID;

CREATE TABLE refusals (
    minute INTEGER, stream TEXT, partition INTEGER, reason TEXT, records INTEGER NOT NULL,
    PRIMARY KEY (minute, stream, partition, reason)
) WITHOUT ROWID;
