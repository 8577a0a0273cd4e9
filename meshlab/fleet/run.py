"""What came of a run: one row per user, and the tables of the job, partition by partition."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshlab.errors import MeshlabError, StorageError
from meshlab.fleet.folder import Folder, Told, read_told, summary_of
from meshlab.fleet.job import Job, schema_of
from meshlab.fleet.work import table_path
from meshlab.markup import SHOWN, headline, table
from meshlab.tables.tabular import Tabular
from meshlab.wording import counted

OUTCOME = pa.schema(
    [("uid", pa.string()), ("ok", pa.bool_()), ("kind", pa.string()), ("message", pa.string()), ("hint", pa.string())]
)
"""What the summary of every job begins with; the last three are of an error."""


class Course(NamedTuple):
    """How a run went: tasks done and skipped, how often work was lost with a worker, and seconds."""

    tasks: int
    skipped: int
    lost: int
    seconds: float


class Run(Tabular):
    """A summary with one row per user, and tables that stand in partitions in the order of users.

    ``path`` is the folder they are in.  A temporary one goes with the last run that is in it.
    """

    def __init__(self, job: Job, folder: Folder, tasks: Sequence[str], course: Course) -> None:
        self.job = job
        self.course = course
        self._folder = folder
        self._tasks = list(tasks)
        self._summary: pa.Table | None = None

    @property
    def path(self) -> Path:
        """The folder with ``summary.parquet`` and ``parts/``."""
        return self._folder.path

    def to_arrow(self) -> pa.Table:
        """The summary: ``uid``, ``ok``, ``kind``, ``message`` and ``hint`` of an error, and the figures of the job."""
        if self._summary is None:
            self._summary = summary_of(self.path)
        return self._summary

    @property
    def failed(self) -> pa.Table:
        """The rows of users who failed."""
        found = self.to_arrow()
        return found.filter(pc.invert(found["ok"])).select(OUTCOME.names)

    @property
    def sound(self) -> list[str]:
        """The users who did not fail."""
        found: list[str] = self.to_arrow().filter(pc.field("ok"))["uid"].to_pylist()
        return found

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables of this job."""
        return tuple(self.job.tables)

    def parts(self, name: str) -> list[Path]:
        """The Parquet files of a table, in the order of users."""
        if name not in self.job.tables:
            known = f"choose from {', '.join(self.tables)}" if self.tables else "all there is stands in the summary"
            raise MeshlabError(f"{self.job.name} has no table {name!r}", hint=known)
        return [table_path(self.path, task, name) for task in self._tasks if name in self._told_of(task).files]

    def each(self, name: str) -> Iterator[pa.Table]:
        """A table, a partition at a time."""
        for path in self.parts(name):
            yield pq.read_table(path, page_checksum_verification=True)

    def table(self, name: str) -> pa.Table:
        """A table of all users at once."""
        schema = schema_of(self.job, name, self._folder.told["options"])
        found = pa.concat_tables([schema.empty_table(), *self.each(name)])
        return found.unify_dictionaries()

    def _told_of(self, task: str) -> Told:
        try:
            return read_told(self.path, task)
        except (OSError, ValueError):
            raise StorageError(
                f"{self.path}: a partition of this run is not there any more",
                hint="a later run in the same folder takes its place: use what that one returned",
            ) from None

    @property
    def damage(self) -> int:
        """Number of damaged or missing pieces in the logs, where the job counts them."""
        found = self.to_arrow()
        return pc.sum(found["damage"]).as_py() or 0 if "damage" in found.schema.names else 0

    def __repr__(self) -> str:
        return f"<{self.job.name} of {self._told()}>"

    def _repr_html_(self) -> str:
        found = self.to_arrow()
        bad = self.failed.slice(0, SHOWN).to_pylist()
        names = ["uid", *self.job.figures.names[:6]]
        rows = found.filter(found["ok"]).slice(0, SHOWN).select(names).to_pylist()
        told = "".join(f"<p>{html.escape(row['uid'])}: {html.escape(row['message'])}</p>" for row in bad)
        shown = table(names, ([_cell(value) for value in row.values()] for row in rows), found.num_rows)
        return headline(self.job.name, "", self._told()) + told + shown

    def _told(self) -> str:
        failed = self.failed.num_rows
        return counted(len(self), "user") + (f", {failed:,} failed (see .failed)" if failed else "")


def _cell(value: Any) -> str:
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "" if value is None else str(value)
    )
