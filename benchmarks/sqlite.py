"""The log a user would keep in SQLite: WAL mode, ``synchronous=FULL``, one table."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from meshlab.events import Delete, Insert, MeshEvent, Update

_INSERT = "insert into log (op, record) values (?, ?)"
_encode = msgspec.json.encode


class SqliteLog:
    """One connection to the table ``log``: op and record, the record as JSON text.

    Nothing is validated, and there is no time, checksum or chain.  Every call of
    ``append`` or ``append_many`` is one durable transaction.
    """

    def __init__(self, path: Path) -> None:
        self._connection = open_log(path)

    def append(self, event: MeshEvent) -> None:
        self._connection.execute(_INSERT, row_of(event))

    def append_many(self, rows: Iterable[tuple[str, str]]) -> None:
        self._connection.execute("begin immediate")
        self._connection.executemany(_INSERT, rows)
        self._connection.execute("commit")

    def append_events(self, events: Sequence[MeshEvent]) -> None:
        self.append_many([row_of(event) for event in events])

    def append_dicts(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.append_many(rows_of_dicts(events))

    def close(self) -> None:
        self._connection.close()


class SharedSqliteLog(SqliteLog):
    """One connection for all threads, with a lock around each transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._mutex = threading.Lock()

    def append(self, event: MeshEvent) -> None:
        row = row_of(event)
        with self._mutex:
            self._connection.execute(_INSERT, row)


def open_log(path: Path) -> sqlite3.Connection:
    """A connection to the database at ``path``, in which there is the table; threads may share it."""
    connection = sqlite3.connect(path, timeout=600, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists log (seq integer primary key, op text, record text)")
    return connection


def row_of(event: MeshEvent) -> tuple[str, str]:
    """Op and record of an event, encoded as fast as msgspec can."""
    if isinstance(event, (Insert, Update)):
        return type(event).__name__, _encode(event.memory).decode()
    return type(event).__name__, _encode(event.id if isinstance(event, Delete) else event.value).decode()


def rows_of_dicts(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The same of events as plain dicts."""
    return [(op, _encode(body).decode()) for event in events for op, body in event.items()]
