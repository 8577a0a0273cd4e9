"""What a worker does with a task.  Whatever goes wrong with a user is a row, and stops no other.

Workers keep nothing and answer with small tables.  Only events, which may be large, they
write themselves, into the folder of the run: under a name of their own, renamed when
they are whole, so a worker that is killed leaves nothing that counts.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from meshlab.errors import MeshlabError, StorageError, storage_errors
from meshlab.fleet.job import EVENTS, JOBS, Call, Job, schema_of
from meshlab.fleet.pieces import Reading
from meshlab.fleet.place import LOG, InBucket
from meshlab.fleet.task import Assignment, Unit

PARTS, TOKEN = "parts", "job.json"
_REPORT = "this is a defect in meshlab, or of the machine: please report it with the message"


class Answer(NamedTuple):
    """What came of a task: rows of the summary, the readings of parts of users, and tables by name.

    ``events`` are the bytes of the file of events that is in the folder, -1 when there is none.
    """

    rows: list[dict[str, Any]]
    readings: list[Reading]
    tables: dict[str, pa.Table]
    events: int = -1


def carry_out(assignment: Assignment) -> Answer:
    """Do a task."""
    job = JOBS[assignment.job]
    answer = Answer([], [], {})
    found: dict[str, list[pa.Table]] = {name: [] for name in job.tables if name != EVENTS}
    with _event_file(assignment, job) as events:
        for unit in assignment.task.units:
            _do(assignment, job, unit, events, answer, found)
    tables = {name: pa.concat_tables([job.tables[name].empty_table(), *some]) for name, some in found.items()}
    return answer._replace(tables=tables, events=events.nbytes)


def _do(
    assignment: Assignment, job: Job, unit: Unit, events: EventFile, answer: Answer, found: dict[str, list[pa.Table]]
) -> None:
    """One user, or a part of one."""
    try:
        with _opened(assignment, job, unit) as root:
            call = Call(assignment.place, unit, root, assignment.options, events.add)
            if unit.pieces is not None:
                assert job.of_pieces is not None
                answer.readings.append(job.of_pieces(call))
            else:
                figures, tables = job.of_user(call)
                answer.rows.append({"uid": unit.uid, "ok": True, **figures})
                for name, table in tables.items():
                    found[name].append(table)
        events.keep()
    except Exception as error:
        events.drop()
        answer.rows.append(error_row(unit.uid, error))


def error_row(uid: str, error: BaseException) -> dict[str, Any]:
    """The row of a user who failed.

    >>> error_row("ann", StorageError("cannot read it", hint="look at the disk"))["message"]
    'cannot read it'
    """
    if isinstance(error, MeshlabError):
        message, hint = error.message, error.hint
    elif isinstance(error, OSError):
        message, hint = str(error), StorageError.default_hint
    else:
        message, hint = f"unexpected {type(error).__name__}: {error}", _REPORT
    return {"uid": uid, "ok": False, "kind": type(error).__name__, "message": message, "hint": hint}


def _opened(assignment: Assignment, job: Job, unit: Unit) -> Any:
    place = assignment.place
    if job.opens:
        return place.opened(unit, job.reads)
    return nullcontext(place.workshop() if isinstance(place, InBucket) else Path(place.path))


# Events


class EventFile:
    """The events of a task on their way into one Parquet file.

    Those of small users wait until the user is done, so that none of one who fails get
    in.  One who is alone in the task goes through, and begins anew after a failure.
    """

    def __init__(self, path: Path | None, schema: pa.Schema | None, *, alone: bool) -> None:
        self.path, self.schema, self.alone = path, schema, alone
        self.nbytes = -1
        self._held: list[pa.RecordBatch] = []
        self._kept: list[pa.RecordBatch] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch of the user whose turn it is."""
        if self.alone:
            self._write(pa.Table.from_batches([batch]))
        else:
            self._held.append(batch)

    def keep(self) -> None:
        """The user is done."""
        self._kept += self._held
        self._held = []

    def drop(self) -> None:
        """The user failed: nothing of it stays."""
        self._held = []
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> None:
        """Write what waits, and be on the disk."""
        if self.path is None:
            return
        if self._kept or self._writer is None:
            self._write(pa.Table.from_batches(self._kept, self.schema).unify_dictionaries())
        self.close()
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
            self.nbytes = os.fstat(file.fileno()).st_size

    def close(self) -> None:
        """End the file, whatever is in it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            assert self.path is not None
            self._writer = pq.ParquetWriter(self.path, self.schema, compression="zstd", write_page_checksum=True)
        self._writer.write_table(table)


@contextmanager
def _event_file(assignment: Assignment, job: Job) -> Iterator[EventFile]:
    """The file that appears in the folder when all went well; none for jobs without events."""
    units = assignment.task.units
    if job.reads != LOG:
        yield EventFile(None, None, alone=False)
        return
    folder = Path(assignment.folder)
    _check_shared(folder, assignment.token)
    target = events_path(folder, assignment.task.id)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    file = EventFile(temporary, schema_of(job, EVENTS, assignment.options), alone=len(units) == 1)
    try:
        with storage_errors("write", target):
            yield file
            file.finish()
            os.replace(temporary, target)
    finally:
        file.close()
        temporary.unlink(missing_ok=True)


def events_path(folder: Path, task: str) -> Path:
    """Where the events of a task are."""
    return table_path(folder, task, EVENTS)


def table_path(folder: Path, task: str, table: str) -> Path:
    """Where a table of a task is."""
    return folder / PARTS / f"{task}.{table}.parquet"


def _check_shared(folder: Path, token: str) -> None:
    try:
        same = token in (folder / TOKEN).read_text()
    except OSError:
        same = False
    if not same:
        raise StorageError(
            f"{folder} is not the folder of this run where the worker looks",
            hint="events are written by the workers: name a folder that all of them see under the same path",
        )
