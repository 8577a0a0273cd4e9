"""What each contender delivers and leaves out, and how the table is to be read."""

from __future__ import annotations

_UNCHECKED = "verifies nothing; a line cut short or a changed digit goes unseen or ends the load"

DESCRIPTIONS = (
    (
        "meshlab, load",
        "an Arrow table of all its columns: place, sequence, times, op, dialect, the record's fields side by side "
        "(times as text and as timestamps), unknown fields, sizes",
        "verified: the MD5 of every frame, the chain between frames, and that every byte is accounted for",
    ),
    (
        "DuckDB read_json",
        "an Arrow table of timestamp, op, the 17 fields, seq; `coalesce(event.Insert.x, event.Update.x)` for each "
        "field a recall gives, the Insert's alone for the others; types as DuckDB infers them (UUID, timestamps)",
        _UNCHECKED,
    ),
    (
        "DuckDB select *",
        "one nested column for the event, and timestamp, seq, n, prev, sum",
        f"flattens nothing; {_UNCHECKED}",
    ),
    (
        "pyarrow.json",
        "the columns of DuckDB read_json, by `coalesce` of struct fields; types inferred",
        _UNCHECKED,
    ),
    (
        "polars.read_ndjson",
        "the same columns in a polars frame; types inferred from 10,000 lines",
        _UNCHECKED,
    ),
    (
        "pandas.read_json",
        "the same columns in a pandas frame; nested fields stay dicts",
        _UNCHECKED,
    ),
    (
        "meshlab, sealed",
        "the same columns as `meshlab, load`, from a Parquet copy made from verified bytes",
        "does not hash the log again: checks that size, time, head and tail of the segment are those the copy was "
        "made from, and the checksum of every Parquet page read",
    ),
    (
        "DuckDB over JSON lines",
        "bytes and events per hour and op, by `read_ndjson_objects` and JSON paths",
        _UNCHECKED,
    ),
    (
        "DuckDB over text by position",
        "the same totals from lines read as text, time and op at the places where this log has them",
        "verifies nothing; miscounts any line that is not laid out like ours",
    ),
    (
        "write + fdatasync",
        "the same frames, byte for byte, in a file of their own",
        "encodes nothing, locks nothing, checks nothing",
    ),
    (
        "SQLite",
        "op and record (`msgspec.json.encode` to text) in one table; WAL mode, `synchronous=FULL`, one transaction "
        "per append or batch; 64 threads with a connection each, or sharing one under a lock",
        "validates nothing; no time, checksum or chain",
    ),
    (
        "LMDB",
        "op and record under a sequence number, one transaction per append or batch, synced as LMDB does by itself; "
        "64 threads share one environment, which lets one of them write at a time",
        "validates nothing; no time, checksum or chain",
    ),
    (
        "SQLite, pragma integrity_check",
        "the same lines as rows of a table: looks at the structure of every page",
        "sees no flipped bit within a row: SQLite keeps no checksums",
    ),
    (
        "MD5 of the whole file",
        "one digest of the file, as `md5sum` would give",
        "tells that something differs from an older digest, not what or where; needs that digest",
    ),
    (
        "FastAPI + SQLite FULL",
        "user and event as text in the table of `SQLite`, one transaction per request; the connection is used by the "
        "event loop, or by FastAPI's threads under a lock, whichever is faster",
        "no keys, no limits, no access log; any JSON is an event; no order, time, checksum or chain",
    ),
    (
        "phase-1 way, no sync",
        "a line with a time and the event in the user's file of the day, opened and closed for each; over HTTP in "
        "FastAPI",
        "nothing is synced: what was acknowledged is lost with the power; no lock, no checks",
    ),
    (
        "orjson and a dict",
        "a dict of dicts of the live records",
        "believes every line: no sums, no sequence, no orphans, no rejects; its result is Python objects, "
        "meshlab's an Arrow table",
    ),
    (
        "DuckDB, one query",
        "an Arrow table of the live records: `arg_max` of each field by seq since the last Insert of its id",
        "believes every line; no orphans; relies on seq, which the other dialects do not have",
    ),
    (
        "struct.unpack loop to dicts, then Arrow",
        "an Arrow table of the 17 fields",
        "holds the whole file in memory; believes every length, variant and key; no timestamps",
    ),
)

REMARKS = (
    "Ratio: meshlab against the contender in the same run. Of `x the speed` more is better, of `x the time` less. "
    "Floor is what must hold, aim what is wanted; rows without a floor are there for information.",
    "Every other round runs in reverse order. The log and its sealed copy are read once before measuring, so that "
    "loads come from the page cache. The garbage of one measurement is collected before the next; the collector "
    "stays on.",
    "Cost against size: every size is a log of its own; the largest is measured once, the others in as many rounds as "
    "told. The slope is that of least squares through the sizes from 100,000 events on, both scales logarithmic: one "
    "is linear, nought does not depend on the size.",
    "Each contender uses the threads it uses by default. Libraries are loaded before the first measurement, database "
    "connections for loads are opened within it.",
    "Before measuring, all loaders must give the same number of rows, both sides of the aggregate the same totals, "
    "and the replay the same records as the loop over dicts, field by field.",
    "The log holds 30 % Inserts, 63 % Updates (recalls of five fields), 7 % Deletes. For the sealed rows an event of "
    "the next day stands behind the log, as the newest segment is never sealed; DuckDB and the loop read it too.",
    "Appends are measured in many short rounds in turn, because a disk's speed wanders. The bare loop writes the "
    "frames that meshlab has just written. Of the two ways to use SQLite from 64 threads the faster one counts.",
    "Peak memory is the largest resident set of a fresh Python process that verifies the log and does nothing else.",
    "Opening the writer: before each time the segment leaves the page cache and the lock file is deleted, so that no "
    "hint is left; the bytes are those the disk delivered to the process (told by Linux only).",
    "Over HTTP, one process on the same machine keeps each connection busy: the next request goes out when the answer "
    "to the one before is there. One user, all servers run at once and are measured in turn; meshlab's log of requests "
    "is on, those of the others are off. uvicorn uses uvloop and httptools for all of them.",
    "Bincode is read on one core, by both readers in turn; they must find the same records. A migration is planned "
    "and applied by a fresh process, whose largest resident set counts; its time is that of apply alone.",
    "A move of the explorer is measured in the kernel, tables and figure made; what the browser takes to show them is "
    "not in it. Steps go from event to event, jumps from anywhere to anywhere.",
)
