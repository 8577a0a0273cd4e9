"""DuckDB connections, all set up alike."""

from __future__ import annotations

import atexit
import os
from functools import lru_cache

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own in memory: times in UTC, no progress bar, no files, no spilling, no Python variables.

    >>> connect().sql("select timestamptz '2025-07-07 12:00:00' as t").to_arrow_table().schema.field("t").type
    TimestampType(timestamp[us, tz=UTC])
    """
    connection = duckdb.connect(":memory:")
    connection.execute("set temp_directory=''")
    connection.execute("set enable_external_access=false")
    connection.execute("set python_enable_replacements=false")
    return _set_up(connection)


def borrow() -> duckdb.DuckDBPyConnection:
    """A connection to the one DuckDB all loads of this process share, without an optimiser.

    Making a DuckDB takes longer than parsing a small segment, and the queries asked of
    this one leave nothing to optimise.  Only for queries of our own.
    """
    connection = _set_up(_shared(os.getpid()).cursor())
    connection.execute("pragma disable_optimizer")
    return connection


def _set_up(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    connection.execute("set TimeZone='UTC'")
    connection.execute("set enable_progress_bar=false")
    return connection


@lru_cache(maxsize=1)
def _shared(process: int) -> duckdb.DuckDBPyConnection:
    """The DuckDB of a process; a forked child must not use its parent's."""
    return connect()


# Before the interpreter takes its modules apart: DuckDB complains of what it finds then.
atexit.register(_shared.cache_clear)
