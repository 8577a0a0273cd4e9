"""Loading the log with other tools, each to the same columns.

Timestamp, op, the seventeen fields of the record side by side, seq: what an Insert or
Update carries, and the id of a Delete.  The log nests a record under its op, so after
reading each tool has to take it out; that is part of the work, as it is meshlab's.
None of them checks a sum, a sequence number or that every byte of the file was used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meshlab.events import FIELDS

UPDATED = ("id", "amplitude", "stability", "last_accessed", "access_count")
"""The fields a recall gives: all that an Update in this log holds."""

COLUMNS = ("timestamp", "op", *FIELDS, "seq")
"""What every loader delivers."""


# DuckDB


def duckdb_fields(path: Path) -> Any:
    """DuckDB's ``read_json`` with its own idea of the types, and the record taken out by SQL."""
    return _duckdb(f"select timestamp, {_duckdb_op()} as op, {_duckdb_record()}, seq from {_read_json(path)}")


def duckdb_bare(path: Path) -> Any:
    """``select *``: one nested column for the event, nothing taken out."""
    return _duckdb(f"select * from {_read_json(path)}")


def duckdb_totals(path: Path) -> Any:
    """Bytes and events per hour and op, the lines parsed as JSON."""
    return _duckdb(f"""
        select time_bucket(interval 1 hour, cast(json->>'$.timestamp' as timestamp)) as hour,
               lower(json_keys(json, '$.event')[1]) as op, sum(strlen(json) + 1) as bytes, count(*) as events
        from read_ndjson_objects('{_pattern(path)}') group by all""")


def duckdb_totals_by_position(path: Path) -> Any:
    """The same from the places where this log has time and op; lines of other writers would break it."""
    return _duckdb(f"""
        select time_bucket(interval 1 hour, cast(substr(line, 15, 26) as timestamp)) as hour,
               lower(regexp_extract(line, '"event":."(\\w+)"', 1)) as op,
               sum(strlen(line) + 1) as bytes, count(*) as events
        from read_csv('{_pattern(path)}', columns={{'line': 'varchar'}}, delim='\\x01', quote='', escape='',
                      header=false, auto_detect=false)
        group by all""")


def duckdb_replay(path: Path) -> Any:
    """The live records: what stands since the last Insert of an id, and for each field the last value given."""
    last = ", ".join(
        f'arg_max("{name}", seq) filter ("{name}" is not null and seq >= since) as "{name}"'
        for name in FIELDS
        if name != "id"
    )
    return _duckdb(f"""
        with events as (select {_duckdb_op()} as op, {_duckdb_record()}, seq from {_read_json(path)}),
        lives as (select *, max(seq) filter (op <> 'update') over (partition by id) as since from events)
        select id, {last} from lives group by id having arg_max(op, seq) filter (seq = since) = 'insert'""")


def _duckdb(query: str) -> Any:
    import duckdb

    connection = duckdb.connect()
    try:
        connection.execute("set TimeZone='UTC'")
        return connection.sql(query).to_arrow_table()
    finally:
        connection.close()


def _pattern(path: Path) -> str:
    """A file, or all segments of a folder, as SQL text."""
    return str(path / "wal-*.log" if path.is_dir() else path).replace("'", "''")


def _read_json(path: Path) -> str:
    return f"read_json('{_pattern(path)}', format='newline_delimited')"


def _duckdb_op() -> str:
    return """case when event."Insert" is not null then 'insert' when event."Update" is not null then 'update'
        else 'delete' end"""


def _duckdb_record() -> str:
    return ", ".join(f'{_duckdb_field(name)} as "{name}"' for name in FIELDS)


def _duckdb_field(name: str) -> str:
    insert, update = (f'event."{tag}"."{name}"' for tag in ("Insert", "Update"))
    if name == "id":
        return f'coalesce({insert}, {update}, event."Delete")'
    return f"coalesce({insert}, {update})" if name in UPDATED else insert


# Polars


def polars_fields(path: Path) -> Any:
    """``polars.read_ndjson``; its first hundred lines do not show every type, so it looks at 10,000."""
    import polars as pl

    def field(tag: str, name: str) -> Any:
        return pl.col("event").struct.field(tag).struct.field(name)

    def column(name: str) -> Any:
        given = [field("Insert", name), *([field("Update", name)] if name in UPDATED else [])]
        return pl.coalesce(*given, *([pl.col("event").struct.field("Delete")] if name == "id" else [])).alias(name)

    op = (
        pl.when(field("Insert", "id").is_not_null())
        .then(pl.lit("insert"))
        .when(field("Update", "id").is_not_null())
        .then(pl.lit("update"))
        .otherwise(pl.lit("delete"))
    )
    frame = pl.read_ndjson(path, infer_schema_length=10_000)
    return frame.select("timestamp", op.alias("op"), *[column(name) for name in FIELDS], "seq")


# PyArrow


def pyarrow_fields(path: Path) -> Any:
    """``pyarrow.json.read_json``, types inferred, on all cores."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import json

    table = json.read_json(path)
    event = table.column("event")

    def field(*names: str) -> Any:
        return pc.struct_field(event, list(names))

    def column(name: str) -> Any:
        given = [field("Insert", name), *([field("Update", name)] if name in UPDATED else [])]
        return pc.coalesce(*given, *([field("Delete")] if name == "id" else [])) if len(given) > 1 else given[0]

    inserted, updated = (pc.is_valid(field(tag, "id")) for tag in ("Insert", "Update"))
    op = pc.if_else(inserted, "insert", pc.if_else(updated, "update", "delete"))
    columns = [table.column("timestamp"), op, *[column(name) for name in FIELDS], table.column("seq")]
    return pa.table(columns, names=list(COLUMNS))


# Pandas


def pandas_fields(path: Path) -> Any:
    """``pandas.read_json(lines=True)``; the events are dicts, taken apart by a loop."""
    import pandas as pd

    frame = pd.read_json(path, lines=True)
    tags, bodies = zip(*[item for event in frame.pop("event") for item in event.items()], strict=True)
    rows = [{"id": body} if tag == "Delete" else body for tag, body in zip(tags, bodies, strict=True)]
    records = pd.DataFrame(rows, columns=list(FIELDS))
    return pd.concat(
        [frame[["timestamp"]], pd.Series(tags, name="op").str.lower(), records, frame[["seq"]]], axis="columns"
    )
