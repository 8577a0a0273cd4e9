"""The folder of a run: partitions that are whole or not there, and what they belong to.

    job.json                 the job, its options, where the users are and which; locked by the run that uses it
    parts/<task>.<table>.parquet   the tables of a task
    parts/<task>.told        rows of the summary, and the sizes of the tables: the commit point
    summary.parquet          one row per user, written at the end

A task is named by its content: job, options, users and what they looked like.  So a run
in the same folder skips exactly those tasks whose input is what it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from meshlab.errors import MeshlabError, StorageError, storage_errors
from meshlab.fleet.pieces import Reading
from meshlab.fleet.work import EVENTS, PARTS, TOKEN, Answer, table_path
from meshlab.snapshot.checkpoint import tool

SUMMARY = "summary.parquet"
_OURS = re.compile(r"\.?[0-9a-f]{20}\.[a-z.]+(\.[0-9a-f]{8}\.tmp)?")
_FORMAT = 2
_MADE_BY = f"{tool()}, partitions 2"
"""What an earlier run must have been to be gone on from; the number counts changes of what partitions mean."""


class Told(NamedTuple):
    """What is said of a task that is done: its rows, readings, and the bytes of its tables by name."""

    made_by: str
    identity: str
    rows: list[dict[str, Any]]
    readings: list[Reading]
    files: dict[str, int]

    @property
    def sound(self) -> bool:
        """Whether nobody in it failed."""
        return all(row["ok"] for row in self.rows)


class Folder:
    """Where a run keeps what it found; without a path a temporary one, which goes when nobody needs it."""

    def __init__(self, path: str | os.PathLike[str] | None, told: Mapping[str, Any]) -> None:
        """Make it, or take one of the same job.  Raises ``MeshlabError`` for any other."""
        self.told = {"format": _FORMAT, **told}
        self.identity = hashlib.sha256(_json(self.told)).hexdigest()
        if path is None:
            self.path = Path(tempfile.mkdtemp(prefix="meshlab-fleet-"))
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        else:
            self.path = Path(path).absolute()
        with storage_errors("make", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._fd = self._claim()
            (self.path / PARTS).mkdir(exist_ok=True)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        """Let other runs use it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # a forked worker may have the descriptor as well
        os.close(self._fd)

    def _claim(self) -> int:
        """The open file that says whose the folder is, locked."""
        there = os.listdir(self.path)
        if there and TOKEN not in there:
            raise MeshlabError(f"{self.path} is not empty", hint="name a folder that is not there yet")
        fd = os.open(self.path / TOKEN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._compare(fd)
        except BlockingIOError:
            os.close(fd)
            raise MeshlabError(
                f"another run is using this folder: {self.path}", hint="wait until it has ended, or name another folder"
            ) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _compare(self, fd: int) -> None:
        """Say whose a new folder is; refuse that of another run."""
        mine = {**self.told, "identity": self.identity}
        data = os.pread(fd, os.fstat(fd).st_size, 0)
        if not data:
            os.write(fd, _json(mine))
            return
        try:
            known = json.loads(data)
        except ValueError:
            known = None
        if known != mine:
            raise MeshlabError(
                f"{self.path} holds the output of another run: {_short(known)}",
                hint="name another folder, or delete this one",
            )

    def done(self, task: str, tables: Iterable[str]) -> Told | None:
        """What is said of a task that an earlier run has done; None when it is not, or somebody in it failed."""
        try:
            told = read_told(self.path, task)
            sizes = {name: table_path(self.path, task, name).stat().st_size for name in told.files}
        except (OSError, ValueError):
            return None
        known = (told.made_by, told.identity) == (_MADE_BY, self.identity)
        if not known or sizes != told.files or not set(tables) <= set(told.files):
            return None
        return told if told.sound else None

    def keep(self, task: str, answer: Answer) -> None:
        """Write what came of a task; what is said of it comes last."""
        files = {} if answer.events < 0 else {EVENTS: answer.events}
        for name, table in answer.tables.items():
            path = table_path(self.path, task, name)
            temporary = _temporary(path)
            with storage_errors("write", path):
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
                files[name] = temporary.stat().st_size
                os.replace(temporary, path)
        body = msgspec.msgpack.encode(Told(_MADE_BY, self.identity, answer.rows, answer.readings, files), enc_hook=str)
        path = told_path(self.path, task)
        with storage_errors("write", path):
            _write(path, hashlib.sha256(body).digest() + body)

    def finish(self, rows: Iterable[list[dict[str, Any]]], schema: pa.Schema, tasks: Iterable[str]) -> None:
        """Write the summary, a partition at a time, and delete what tasks left that are none of this run."""
        path, wanted = self.path / SUMMARY, set(tasks)
        temporary = _temporary(path)
        with storage_errors("write", path):
            with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
                for some in _in_thousands(rows):
                    writer.write_table(pa.Table.from_pylist(some, schema))
            os.replace(temporary, path)
            for file in (self.path / PARTS).iterdir():
                name = file.name.lstrip(".")
                if _OURS.fullmatch(file.name) and (name.split(".")[0] not in wanted or file.name.startswith(".")):
                    file.unlink(missing_ok=True)


def told_path(folder: Path, task: str) -> Path:
    """Where it is said what came of a task."""
    return folder / PARTS / f"{task}.told"


def read_told(folder: Path, task: str) -> Told:
    """What came of a task.  Raises ``OSError`` or ``ValueError``."""
    data = told_path(folder, task).read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        raise ValueError(f"what is said of {task} is damaged")
    try:
        return msgspec.msgpack.decode(data[32:], type=Told)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def summary_of(folder: Path) -> pa.Table:
    """The summary of a run that has ended.  Raises ``StorageError``."""
    try:
        return pq.read_table(folder / SUMMARY)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{folder / SUMMARY} cannot be read: {error}", hint="run the same job again") from None


def _in_thousands(rows: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    waiting: list[dict[str, Any]] = []
    written = False
    for some in rows:
        waiting += some
        if len(waiting) >= _ROWS:
            yield waiting
            waiting, written = [], True
    if waiting or not written:
        yield waiting


_ROWS = 10_000


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _write(path: Path, data: bytes) -> None:
    temporary = _temporary(path)
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, default=str).encode()


def _short(known: Any) -> str:
    if not isinstance(known, dict):
        return "its job.json cannot be read"
    return f"{known.get('job')} of {known.get('place')} with {known.get('options')}, users: {known.get('users')}"
