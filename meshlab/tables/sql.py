"""SQL over a store: ``events``, ``rejects`` and ``segments`` as DuckDB views.

The query runs in a DuckDB of its own that may read these three and nothing else: no
file, no network, no setting can be reached from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from meshlab.errors import MeshlabError
from meshlab.markup import SHOWN, headline, table
from meshlab.tables.connection import connect
from meshlab.tables.events import Events, load_users
from meshlab.tables.load import Log
from meshlab.tables.schema import EVENT_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA
from meshlab.tables.tabular import Tabular
from meshlab.wording import counted

TABLES = {"events": EVENT_SCHEMA, "rejects": REJECT_SCHEMA, "segments": SEGMENT_SCHEMA}

_WORD = re.compile(r"\w+")

_CHEAPEST = "uid"
"""What is loaded when a query needs rows of events but no column; nothing is parsed for it."""

_LOADED = "loaded events"
"""The columns of events that were loaded, under a name no query has reason to use."""


class Result(Tabular):
    """The rows of a query.  ``damage`` counts the damaged pieces in the logs it read."""

    def __init__(self, table: pa.Table, damage: int) -> None:
        self._table = table
        self.damage = damage

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def __repr__(self) -> str:
        return f"<Result: {self._summary()}>"

    def _repr_html_(self) -> str:
        # Columns of a query may share a name, so no row is a dict.
        columns = [column.to_pylist() for column in self._table.slice(0, SHOWN).columns]
        return headline("Result", told=self._summary()) + table(self._table.column_names, zip(*columns), len(self))

    def _summary(self) -> str:
        return f"{counted(len(self), 'row')}, {counted(self._table.num_columns, 'column')}"


def query(roots: Sequence[Log | tuple[Path, str]], sql: str, *, progress: bool = True) -> Result:
    """Run one query over the logs of users given as (directory, uid).

    Only columns that DuckDB's plan of the query reads are loaded.  Raises
    ``MeshlabError`` for a query DuckDB refuses, and for more than one statement.
    """
    words = {word.lower() for word in _WORD.findall(sql)}
    connection = connect()
    try:
        columns = _columns(_only_statement(connection, sql), sql)
        events = load_users(roots, columns=columns or [_CHEAPEST], progress=progress)
        if words & set(TABLES):
            _register(connection, events, columns)
        connection.execute("set lock_configuration=true")
        table = connection.sql(sql)
        rows = pa.table({}) if table is None else table.to_arrow_table()
    except duckdb.Error as error:
        raise MeshlabError(
            f"the query failed: {error}", hint=f"tables: {', '.join(TABLES)}; see docs/format.md"
        ) from None
    finally:
        connection.close()
    return Result(rows, events.damage if words & set(TABLES) else 0)


def _only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.StatementType | None:
    """The kind of the one statement in the text; None when there is none."""
    statements = connection.extract_statements(sql)
    if len(statements) > 1:
        raise MeshlabError(f"the query holds {len(statements)} statements, expected one", hint="run them one by one")
    return statements[0].type if statements else None


# Which columns a query reads


def _columns(kind: duckdb.StatementType | None, sql: str) -> list[str]:
    """The columns of events a statement reads, in schema order: none when it reads no events, all when unsure.

    DuckDB is asked for its plan over empty tables, with no optimiser but the one that
    drops unused columns: whatever the others do, the rows depend on no more than these.
    """
    if kind != duckdb.StatementType.SELECT:
        return list(EVENT_SCHEMA.names)
    with _empty_tables() as connection:
        try:
            ((_, text),) = connection.execute(f"explain (format json) {sql}").fetchall()
        except duckdb.Error:
            connection.sql(sql)
            return list(EVENT_SCHEMA.names)
    found = {name for node in msgspec.json.decode(text) for name in _projected(node)}
    return [name for name in EVENT_SCHEMA.names if name in found]


def _empty_tables() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the tables, of which events alone is an Arrow table, that finds out what is unused."""
    connection = connect()
    others = "select string_agg(name, ',') from duckdb_optimizers() where name <> 'unused_columns'"
    ((names,),) = connection.execute(others).fetchall()
    connection.execute(f"set disabled_optimizers='{names}'")
    for name, schema in TABLES.items():
        connection.register("events" if name == "events" else "empty", schema.empty_table())
        if name != "events":
            connection.execute(f"create table {name} as from empty")
    connection.unregister("empty")
    return connection


def _projected(node: dict[str, Any]) -> Iterator[str]:
    """The columns that the scans of events in a plan give out; a scan that does not say gives all."""
    info = node["extra_info"]
    if info.get("Function") == "PYTHON_ARROW_SCAN":
        told = info.get("Projections") or EVENT_SCHEMA.names
        names = {name.split(".")[0] for name in ([told] if isinstance(told, str) else told)}
        yield from names if names <= set(EVENT_SCHEMA.names) else EVENT_SCHEMA.names
    for child in node["children"]:
        yield from _projected(child)


def _register(connection: duckdb.DuckDBPyConnection, events: Events, columns: list[str]) -> None:
    """Make the tables known.  Every column of events is there, so that names and positions mean the same."""
    if not columns:
        connection.register("events", EVENT_SCHEMA.empty_table())
    elif columns == EVENT_SCHEMA.names:
        connection.register("events", events.to_arrow())
    else:
        connection.register("events", EVENT_SCHEMA.empty_table())
        types = dict(zip(EVENT_SCHEMA.names, connection.table("events").types, strict=True))
        connection.unregister("events")
        connection.register(_LOADED, events.to_arrow())
        parts = (f'"{name}"' if name in columns else f'null::{types[name]} as "{name}"' for name in types)
        connection.execute(f'create temp view events as select {", ".join(parts)} from "{_LOADED}"')
    connection.register("rejects", events.rejects)
    connection.register("segments", events.segments)
