"""The front door: a store, or a bucket, and who does the work.

>>> import tempfile
>>> from meshlab.store import open
>>> store = open(tempfile.mkdtemp())
>>> for uid in ("ann", "bob"):
...     _ = store[uid].append({"Insert": {"id": "m1", "amplitude": 0.5}})
>>> run = Fleet(store.path, 1, progress=False).verify()
>>> run
<verify of 2 users>
>>> run.to_arrow().select(["uid", "ok", "events"]).to_pylist()
[{'uid': 'ann', 'ok': True, 'events': 1}, {'uid': 'bob', 'ok': True, 'events': 1}]
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from meshlab.bars import progress_bar
from meshlab.errors import MeshlabError
from meshlab.fleet.attribution import GrowthRun, RedundancyRun
from meshlab.fleet.crew import Crew, Lost
from meshlab.fleet.folder import Folder, read_told
from meshlab.fleet.job import (
    CHECKPOINT,
    EVENTS,
    GROWTH,
    LOAD,
    PROVE,
    REDUNDANCY,
    STATE,
    STATS,
    VACUUM,
    VERIFY,
    WINDOWS,
    Job,
    can_be_cut,
)
from meshlab.fleet.pieces import Reading, WrongGuess, joined
from meshlab.fleet.place import ALL, InBucket, Place, place_of
from meshlab.fleet.run import OUTCOME, Course, Run
from meshlab.fleet.task import SPLIT, Assignment, Task, Unit, task_of, tasks_of
from meshlab.fleet.work import Answer, carry_out, error_row
from meshlab.remote.remote import Remote
from meshlab.tables.load import Moment, micros
from meshlab.wal.paths import listed_uids

Out = str | os.PathLike[str] | None
"""A folder for the results; None: a temporary one."""

_SECONDS_A_PULL = 0.01
"""What a small user from a bucket costs a worker besides the job."""


class Fleet:
    """Per-user jobs over all users of a store, or some.

    ``where`` is the path of a store, which all workers must see under the same path, or
    the address of a bucket that ``sync push`` wrote; of a bucket each worker restores the
    users it reads to ``scratch``.  ``executor`` is what ``Crew`` takes: a number of
    processes, an executor of ``concurrent.futures``, or a Dask client.  Logs of more
    than ``split`` bytes are verified and loaded in pieces, by several workers.

    Every job returns a ``Run`` with one row per user; what goes wrong with a user is in
    its row.  With ``out`` partitions stay in that folder, which one run uses at a time, and
    the same job over the same users skips those that are there.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        executor: Any = None,
        *,
        scratch: str | os.PathLike[str] | None = None,
        split: int = SPLIT,
        progress: bool = True,
    ) -> None:
        self.place: Place = place_of(where, scratch)
        self.split = split
        self._executor = executor
        self._progress = progress

    def users(self) -> list[str]:
        """The uids, sorted."""
        return self.place.users()

    def verify(self, users: Iterable[str] | str | None = None, *, out: Out = None) -> Run:
        """Check every byte of the logs; tables ``segments`` and ``rejects``."""
        return self._run(VERIFY, users, {}, out)

    def load(
        self,
        users: Iterable[str] | str | None = None,
        *,
        columns: Iterable[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        ops: Collection[str] | str | None = None,
        ids: Collection[str] | str | None = None,
        out: Out = None,
    ) -> Run:
        """The events as Parquet; tables ``events``, ``rejects`` and ``segments``; see ``Store.events``."""
        options: dict[str, Any] = {
            "columns": _sorted(columns, keep=True),
            "since": micros(since, "since"),
            "until": micros(until, "until"),
            "ops": _sorted(ops),
            "ids": _sorted(ids),
        }
        return self._run(LOAD, users, {name: value for name, value in options.items() if value is not None}, out)

    def state(self, users: Iterable[str] | str | None = None, *, at: str | None = None, out: Out = None) -> Run:
        """How many memories live, and their state hash; now, or at a moment."""
        return self._run(STATE, users, {} if at is None else {"at": at}, out)

    def growth(self, users: Iterable[str] | str | None = None, *, out: Out = None) -> GrowthRun:
        """What the logs are full of; table ``totals``, and sums of all users by key."""
        run = self._run(GROWTH, users, {}, out, GrowthRun)
        assert isinstance(run, GrowthRun)
        return run

    def stats(self, users: Iterable[str] | str | None = None, *, out: Out = None) -> Run:
        """What each log holds, counted as ``UserStore.stats`` does."""
        return self._run(STATS, users, {}, out)

    def redundancy(self, users: Iterable[str] | str | None = None, *, out: Out = None) -> RedundancyRun:
        """What the memories no longer need; table ``days``."""
        run = self._run(REDUNDANCY, users, {}, out, RedundancyRun)
        assert isinstance(run, RedundancyRun)
        return run

    def windows(self, users: Iterable[str] | str | None = None, *, out: Out = None) -> Run:
        """Which moments can be restored; table ``windows``."""
        return self._run(WINDOWS, users, {}, out)

    def prove(self, users: Iterable[str] | str | None = None, *, remote: str | None = None, out: Out = None) -> Run:
        """Restore users from a bucket to scratch, replay and compare; see ``Remote.prove``.

        Of a fleet over a directory, ``remote`` is the bucket, and the originals are
        compared with.  Without originals a user with no checkpoint is ``inconclusive``.
        How a proof went is in ``outcome``; ``ok`` says only that there is one.  A proof is
        of the bucket as it is now, so with ``out`` none is skipped.
        """
        if isinstance(self.place, InBucket) is (remote is not None):
            raise MeshlabError(
                "a proof is of users in a bucket" if remote is None else "this fleet is over a bucket already",
                hint="name the bucket: prove(remote='s3://BUCKET/PREFIX')" if remote is None else "leave out remote",
            )
        options = {} if remote is None else {"remote": remote, "mark": Remote(self.place.name, remote).mark()}
        return self._run(PROVE, users, options, out)

    def checkpoint(
        self,
        users: Iterable[str] | str | None = None,
        *,
        upgrade: bool = False,
        retain: int | None = None,
        dry_run: bool = False,
    ) -> Run:
        """Fold what the logs gained; on a local path only."""
        return self._run(CHECKPOINT, users, {"upgrade": upgrade, "retain": retain, "dry_run": dry_run}, None)

    def vacuum(self, users: Iterable[str] | str | None = None, *, apply: bool = False) -> Run:
        """Say what retention no longer needs, and with ``apply`` delete it; on a local path only."""
        return self._run(VACUUM, users, {"apply": apply}, None)

    def _run(
        self,
        job: Job,
        users: Iterable[str] | str | None,
        options: Mapping[str, Any],
        out: Out,
        kind: type[Run] = Run,
    ) -> Run:
        if job.writes and not self.place.shared:
            raise MeshlabError(
                f"{job.name} changes users, and those in {self.place.name} are copies",
                hint="run it on the store itself; 'sync push' brings the result into the bucket",
            )
        uids = None if users is None else listed_uids(users)
        told = {"job": job.name, "options": dict(options), "place": self.place.name, "users": _named(uids)}
        with Folder(out, told) as folder, Crew(self._executor) as crew:
            return _Work(self, job, options, folder, crew).go(uids, kind)

    def __repr__(self) -> str:
        return f"<Fleet over {self.place.name}>"


class _Work:
    """One run of one job."""

    def __init__(self, fleet: Fleet, job: Job, options: Mapping[str, Any], folder: Folder, crew: Crew) -> None:
        self.fleet, self.job, self.options, self.folder, self.crew = fleet, job, options, folder, crew
        self.cut = can_be_cut(job, options)
        self.skipped = 0

    def go(self, uids: Sequence[str] | None, kind: type[Run]) -> Run:
        started = time.monotonic()
        plan = self._plan(uids)
        with progress_bar(self.job.name, sum(task.nbytes for task in plan), shown=self.fleet._progress) as bar:
            plan = [task for tasks in self._carried_out(plan, bar) for task in tasks]
            order = [task for tasks in self._put_together(plan) for task in tasks]
        schema = pa.schema([*OUTCOME, *self.job.figures])
        ids = [task.id for task in order]
        rows = (read_told(self.folder.path, task.id).rows for task in order if not task.partial)
        self.folder.finish(rows, schema, ids)
        course = Course(len(ids), self.skipped, self.crew.lost, time.monotonic() - started)
        return kind(self.job, self.folder, ids, course)

    def _plan(self, uids: Sequence[str] | None) -> list[Task]:
        place = self.fleet.place
        weighed = place.weigh(uids, self.job.reads if self.cut else ALL, self.fleet.split)
        pull = isinstance(place, InBucket)
        return list(
            tasks_of(
                weighed,
                speed=self.job.speed,
                overhead=self.job.overhead + (_SECONDS_A_PULL if pull else 0),
                identity=self.folder.identity,
                split=self.fleet.split,
                alone=self.job.writes,
            )
        )

    def _carried_out(self, plan: Sequence[Task], bar: Any) -> list[list[Task]]:
        """Do what is not done yet, the largest tasks first; what became of each task of the plan."""
        became = {task.id: [task] for task in plan}
        todo = []
        for task in plan:
            if self.job.resumes and self.folder.done(task.id, self.job.tables) is not None:
                self.skipped += 1
                bar.update(task.nbytes)
            else:
                todo.append(task)
        todo.sort(key=lambda task: -task.nbytes)
        for task, answer in self._answers(todo):
            if isinstance(answer, Lost) and len(task.units) > 1:
                became[task.id] = [task_of([unit], self.folder.identity) for unit in task.units]
                for single, told in self._answers(became[task.id]):
                    self._keep(single, told)
            else:
                self._keep(task, answer)
            bar.update(task.nbytes)
        return list(became.values())

    def _answers(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer | Lost]]:
        for assignment, answer in self.crew.each(carry_out, [self._assignment(task) for task in tasks]):
            yield assignment.task, answer

    def _assignment(self, task: Task) -> Assignment:
        folder = self.folder
        return Assignment(task, self.job.name, self.options, self.fleet.place, str(folder.path), folder.identity)

    def _keep(self, task: Task, answer: Answer | Lost) -> None:
        if isinstance(answer, Lost):
            answer = Answer([error_row(task.units[0].uid, answer)], [], {})
        self.folder.keep(task.id, answer)

    # Users read in pieces

    def _put_together(self, plan: Sequence[Task]) -> Iterator[list[Task]]:
        """The tasks of the plan, behind those of a user in pieces one that tells what they come to."""
        for uid, some in groupby(plan, key=lambda task: task.units[0].uid if task.partial else ""):
            tasks = list(some)
            yield self._joined(uid, tasks) if uid else tasks

    def _joined(self, uid: str, tasks: list[Task]) -> list[Task]:
        try:
            tasks, reading = self._read_again(tasks)
            whole = self._whole(uid, tasks)
            if self.folder.done(whole.id, [name for name in self.job.tables if name != EVENTS]) is None:
                assert self.job.join is not None
                figures, tables = self.job.join(uid, reading, self.options)
                self.folder.keep(whole.id, Answer([{"uid": uid, "ok": True, **figures}], [], dict(tables)))
        except _Failed as failed:
            row = failed.row
        except Exception as error:
            row = error_row(uid, error)
        else:
            return [*tasks, whole]
        whole = self._whole(uid, tasks)
        self.folder.keep(whole.id, Answer([row], [], {}))
        return [whole]

    def _whole(self, uid: str, tasks: Sequence[Task]) -> Task:
        """What the pieces of a user come to; named by all of them, as they were read in the end."""
        return task_of([Unit(uid), *(task.units[0] for task in tasks)], self.folder.identity)

    def _read_again(self, tasks: Sequence[Task]) -> tuple[list[Task], Reading]:
        """The pieces joined; those read from a wrong start once more from the right one, unless an earlier run did."""
        tasks = list(tasks)
        readings = [self._reading(task) for task in tasks]
        while True:
            try:
                return tasks, joined(readings)
            except WrongGuess as wrong:
                place = wrong.place
                unit = tasks[place].units[0]._replace(start=wrong.start)
            tasks[place] = task_of([unit], self.folder.identity)
            if self.folder.done(tasks[place].id, self.job.tables) is None:
                ((_, answer),) = self._answers([tasks[place]])
                self._keep(tasks[place], answer)
            readings[place] = self._reading(tasks[place])

    def _reading(self, task: Task) -> Reading:
        """What was read of a piece.  Raises ``_Failed``."""
        told = read_told(self.folder.path, task.id)
        for row in told.rows:
            raise _Failed(row)
        return told.readings[0]


class _Failed(Exception):
    """A piece that could not be read, and the row that says why."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(row["message"])
        self.row = row


def _named(uids: Sequence[str] | None) -> str:
    """The users of a run, in short."""
    if uids is None:
        return "all"
    return f"{len(uids):,}, {hashlib.sha256(repr(sorted(uids)).encode()).hexdigest()[:16]}"


def _sorted(names: Iterable[str] | str | None, *, keep: bool = False) -> list[str] | None:
    if names is None:
        return None
    listed = [names] if isinstance(names, str) else list(names)
    return listed if keep else sorted(listed)
