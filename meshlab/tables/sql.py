"""SQL over a store: ``events``, ``rejects`` and ``segments`` as DuckDB views.

The query runs in a DuckDB of its own that may read these three and nothing else: no
file, no network, no setting can be reached from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from meshlab.errors import MeshlabError
from meshlab.tables.connection import connect
from meshlab.tables.events import Events, load_users, to_pandas, to_polars
from meshlab.tables.schema import EVENT_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

TABLES = {"events": EVENT_SCHEMA, "rejects": REJECT_SCHEMA, "segments": SEGMENT_SCHEMA}

_WORD = re.compile(r"\w+")
_COUNT = re.compile(r"count\s*\(\s*\*\s*\)", re.IGNORECASE)
_WHOLE = {"columns", "describe", "natural", "show", "summarize"}
"""Words that reach columns without naming them."""

_COUNTED = "op"
"""What is loaded when a query names no column, as ``select 1 from events``."""


class Result:
    """The rows of a query.  ``damage`` counts the damaged pieces in the logs it read."""

    def __init__(self, table: pa.Table, damage: int) -> None:
        self._table = table
        self.damage = damage

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame; integers with gaps stay integers."""
        return to_pandas(self._table)

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame.  Raises ``MeshlabError`` when polars is not installed."""
        return to_polars(self._table)

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"<Result: {len(self):,} rows, {self._table.num_columns} columns>"

    def _repr_html_(self) -> str:
        shown: str = to_pandas(self._table.slice(0, 20)).to_html(index=False)
        return shown


def query(roots: Sequence[tuple[Path, str]], sql: str, *, progress: bool = True) -> Result:
    """Run one query over the logs of users given as (directory, uid).

    Only columns whose names stand in the query are loaded, all if there is a ``*``; a
    table's name used as a value holds just those.  Raises ``MeshlabError``
    for a query DuckDB refuses.
    """
    words = {word.lower() for word in _WORD.findall(sql)}
    events = load_users(roots, columns=_columns(sql, words), progress=progress)
    connection = connect()
    try:
        if words & set(TABLES):
            _register(connection, events)
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


def _columns(sql: str, words: set[str]) -> list[str]:
    """The columns of events a query may look at, in schema order."""
    if "*" in _COUNT.sub("", sql) or "select" not in words or words & _WHOLE:
        return list(EVENT_SCHEMA.names)
    return [name for name in EVENT_SCHEMA.names if name in words] or [_COUNTED]


def _register(connection: duckdb.DuckDBPyConnection, events: Events) -> None:
    connection.register("events", events.to_arrow())
    connection.register("rejects", events.rejects)
    connection.register("segments", events.segments)
