"""The front door: open a store, append to its users, look at what they hold.

>>> import tempfile
>>> store = open(tempfile.mkdtemp())
>>> store["ann"].append({"Insert": {"id": "m1", "amplitude": 0.5}}).last_seq
1
>>> store.users()
['ann']
>>> store["ann"].state().to_pylist()
[{'id': 'm1', 'amplitude': 0.5}]
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshlab.dialects import OPS
from meshlab.errors import SnapshotError, StorageError
from meshlab.markup import SHOWN, headline, table
from meshlab.wal import paths
from meshlab.wal.commit import Receipt
from meshlab.wal.computed import Choose
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.lines import DIALECTS
from meshlab.wal.writer import Durability, Event, Writer
from meshlab.wording import counted, size_text

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from meshlab.diff import Diff
    from meshlab.fleet.fleet import Fleet
    from meshlab.growth.growth import Growth
    from meshlab.history import History
    from meshlab.plan import Window
    from meshlab.remote.remote import Remote
    from meshlab.snapshot.checkpoint import CheckpointReport
    from meshlab.snapshot.state import State
    from meshlab.snapshot.vacuum import VacuumReport
    from meshlab.tables.events import Events
    from meshlab.tables.load import Log, Moment
    from meshlab.tables.seal import SealedFile
    from meshlab.tables.sql import Result
    from meshlab.vault import SolitonVault
    from meshlab.wal.repair import RepairReport
    from meshlab.wal.verify import Verification


class Store:
    """A directory of users.  Opening touches nothing; the first append creates it.

    Closing lets go of the files; a store that was closed may be used again, which also
    is how to go on after ``WalPoisoned``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "commit",
        files: Files = REAL_FILES,
    ) -> None:
        self.path = paths.store_root(path).absolute()
        self.durability = durability
        self._files = files
        self._writers: dict[str, Writer] = {}
        self._mutex = threading.Lock()

    def users(self) -> list[str]:
        """The uids in the store, sorted.  Raises ``NotFound`` when there is no store."""
        return paths.user_ids(self.path)

    def __getitem__(self, uid: str) -> UserStore:
        """One user, who need not exist yet.  Raises ``BadUserId``."""
        return UserStore(self, paths.check_uid(uid))

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self.path.is_dir() and uid in self.users()

    def __iter__(self) -> Iterator[str]:
        return iter(self.users())

    def __len__(self) -> int:
        return len(self.users())

    def events(
        self,
        users: Iterable[str] | str | None = None,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        ops: Collection[str] | str | None = None,
        ids: Collection[str] | str | None = None,
        columns: Iterable[str] | None = None,
        progress: bool = True,
    ) -> Events:
        """The events of some users (all when none is named), as one Arrow-native result.

        ``since`` and ``until`` (a datetime, RFC 3339 text or µs since 1970) bound the
        effective time, inclusive; ``ops`` and ``ids`` choose rows, ``columns`` columns.
        """
        from meshlab.tables.events import load_users

        return load_users(
            self._logs(users), since=since, until=until, ops=ops, ids=ids, columns=columns, progress=progress
        )

    def sql(self, query: str, *, users: Iterable[str] | str | None = None, progress: bool = True) -> Result:
        """A DuckDB query over the tables ``events``, ``rejects`` and ``segments``.

        Only columns the query reads are loaded.  The query is one statement and can read
        nothing but these tables.
        """
        from meshlab.tables.sql import query as run

        return run(self._logs(users), query, progress=progress)

    def growth(
        self, users: Iterable[str] | str | None = None, *, executor: Executor | None = None, progress: bool = True
    ) -> Growth:
        """What the logs are full of, why, until when, and which checkpoint policy to set.

        Nothing is read yet.  ``executor`` is anything with the ``map`` of
        ``concurrent.futures``: users are read side by side.
        """
        from meshlab.growth.growth import Growth

        return Growth(self._logs(users), executor=executor, progress=progress)

    def remote(self, url: str) -> Remote:
        """A bucket to push this store to and to pull users from: ``s3://BUCKET/PREFIX``, ``file:///DIRECTORY``.

        Asks nothing of it yet.  Raises ``RemoteRefused`` for an address of another kind.
        """
        from meshlab.remote.remote import Remote

        return Remote(self.path, url)

    def fleet(self, executor: Any = None, *, progress: bool = True) -> Fleet:
        """Many users at once: jobs that run in processes, over any executor, or on a Dask cluster.

        ``executor`` is a number of processes (None: one for each core), anything with the
        ``submit`` of ``concurrent.futures``, or a Dask ``Client``, whose workers must see
        the store under the same path.  Nothing is started yet.
        """
        from meshlab.fleet.fleet import Fleet

        return Fleet(self.path, executor, progress=progress)

    def close(self) -> None:
        """Close all files this store appends to."""
        with self._mutex:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.path}: {self._summary()}>"

    def _repr_html_(self) -> str:
        uids = self.users() if self.path.is_dir() else []
        rows = [[uid, self[uid]._summary(), size_text(_nbytes(self[uid].root))] for uid in uids[:SHOWN]]
        return headline("Store", str(self.path), self._summary()) + table(("uid", "log", "bytes"), rows, len(uids))

    def _summary(self) -> str:
        return counted(len(self), "user") if self.path.is_dir() else "not created yet"

    def _logs(self, users: Iterable[str] | str | None) -> list[Log]:
        """The logs of the users named, of all when none is."""
        from meshlab.timeline import log_of

        uids = self.users() if users is None else [users] if isinstance(users, str) else users
        return [log_of(paths.existing_user(self.path, uid), uid) for uid in uids]

    def _close_writer(self, uid: str) -> None:
        with self._mutex:
            writer = self._writers.pop(uid, None)
        if writer is not None:
            writer.close()

    def _writer(self, uid: str) -> Writer:
        """The one writer of a user in this store: threads that share it share its syncs."""
        writer = self._writers.get(uid)
        if writer is None:
            with self._mutex:
                writer = self._writers.get(uid)
                if writer is None:
                    root = paths.user_root(self.path, uid)
                    writer = Writer(
                        root,
                        durability=self.durability,
                        files=self._files,
                        least_seq=lambda: _folded_seq(root, uid),
                    )
                    self._writers[uid] = writer
        return writer


class UserStore:
    """One user's log and what it means.  Reading takes no lock and writes nothing."""

    def __init__(self, store: Store, uid: str) -> None:
        self.store = store
        self.uid = uid

    @property
    def root(self) -> Path:
        """The user's directory, which need not exist yet."""
        return paths.user_root(self.store.path, self.uid)

    def append(self, event: Event, *, key: str | None = None) -> Receipt:
        """Append one event; returns when it is durable.  See ``Writer.append``."""
        return self.store._writer(self.uid).append(event, key=key)

    def append_many(self, events: Iterable[Event], *, key: str | None = None) -> Receipt:
        """Append a batch, all of it or nothing.  See ``Writer.append_many``."""
        return self.store._writer(self.uid).append_many(events, key=key)

    def append_chosen(self, choose: Choose) -> None:
        """Append what is chosen when the log's end is known.  See ``Writer.append_chosen``."""
        self.store._writer(self.uid).append_chosen(choose)

    def close(self) -> None:
        """Close the files this user is appended to; the next append opens them anew, which repairs a poisoned log."""
        self.store._close_writer(self.uid)

    def events(self, **selection: Any) -> Events:
        """The user's events; takes what ``Store.events`` takes."""
        return self.store.events(self.uid, **selection)

    def state(self, at: Moment | None = None, *, progress: bool = True) -> State:
        """The memories alive after the last event, or at a moment.

        ``at`` is a time, inclusive (a datetime, RFC 3339 text or µs since 1970), or the
        place of an event, as ``20250707:1234``, which counts.  Raises ``NotRestorable``
        with the nearest moments that can be restored; see ``windows``.
        """
        from meshlab.replay import replay

        return replay(self._existing(), self.uid, at, progress=progress)

    def windows(self) -> list[Window]:
        """The intervals of moments that can be restored, oldest first, and why there are holes."""
        from meshlab.replay import windows

        return windows(self._existing(), self.uid)

    def diff(self, t0: Moment, t1: Moment | None = None, *, progress: bool = True) -> Diff:
        """What changed between two moments (``t1`` None: now), per record and field; moments as in ``state``."""
        from meshlab.diff import Diff

        return Diff(self.state(t0, progress=progress), self.state(t1, progress=progress))

    def history(self, id: str, *, progress: bool = True) -> History:
        """The life of one memory: its events still in the log, and the state of it after each."""
        from meshlab.history import history

        return history(self._existing(), self.uid, id, progress=progress)

    def verify(self, *, progress: bool = True) -> Verification:
        """Check every byte of the log; damage is in the result, not an error."""
        from meshlab.tables.digests import DuckDigests
        from meshlab.timeline import deleted_segments
        from meshlab.wal.verify import verify

        root = self._existing()
        with _bar(root, f"verify {self.uid}", progress) as bar:
            return verify(root, digests=DuckDigests(), progress=bar.update, gone=deleted_segments(root, self.uid))

    def repair(self, target: str | os.PathLike[str], *, progress: bool = True) -> RepairReport:
        """Write a cleaned copy of the log to ``target``; the original is not touched.

        Raises ``SnapshotError`` once there are checkpoints: layers stand for the log byte
        by byte, so damage is accepted there, not cleaned away.
        """
        from meshlab.snapshot.manifest import Manifest, current
        from meshlab.wal.repair import repair

        root = self._existing()
        if isinstance(current(root, self.uid), Manifest):
            raise SnapshotError(
                f"{root}: a log with checkpoints has no cleaned copy: its layers refer to the bytes as they are",
                hint="leave the damaged bytes out with 'meshlab checkpoint --accept FILE:OFFSET'",
            )
        with _bar(root, f"repair {self.uid}", progress) as bar:
            return repair(root, Path(target), progress=bar.update)

    def checkpoint(
        self,
        *,
        upgrade: bool = False,
        accept: Collection[str] = (),
        retain: int | None = None,
        dry_run: bool = False,
        progress: bool = True,
    ) -> CheckpointReport:
        """Fold what the log gained since the last checkpoint into layers.  Appends never wait for it.

        ``upgrade`` allows the first checkpoint over a phase-1 snapshot, which is kept in
        ``history/``; ``accept`` names damage (``wal-20250707.log:1234``) to leave out for
        good; ``retain`` sets for how many days back moments stay restorable (14 unless
        set); ``dry_run`` reports what would be written, and writes nothing that stays.

        Raises ``DamageFound``, ``CheckpointBusy``, ``SnapshotError``.
        """
        from meshlab.snapshot.checkpoint import checkpoint

        return checkpoint(
            self._existing(),
            self.uid,
            upgrade=upgrade,
            accept=accept,
            retain=retain,
            dry_run=dry_run,
            progress=progress,
        )

    def growth(self, *, executor: Executor | None = None, progress: bool = True) -> Growth:
        """What the log is full of, why, until when, and which checkpoint policy to set; see ``Store.growth``."""
        return self.store.growth(self.uid, executor=executor, progress=progress)

    def vacuum(self, *, apply: bool = False) -> VacuumReport:
        """Say what retention no longer needs, and with ``apply`` seal and delete it.

        Raises ``CheckpointBusy``, ``SnapshotError``, ``StorageError``.
        """
        from meshlab.snapshot.vacuum import vacuum

        return vacuum(self._existing(), self.uid, apply=apply)

    def vault(self, *, accept: Collection[str] = ()) -> SolitonVault:
        """A ``SolitonVault`` over this user: memories to store, recall, change and search.

        Opening reads the snapshot and the log behind it: keep the vault.  Raises
        ``DamageFound`` unless every damaged place is in ``accept``.
        """
        from meshlab.vault import SolitonVault

        return SolitonVault(self, accept=accept)

    def seal(self) -> list[SealedFile]:
        """Make columnar copies of finished segments, which load many times faster."""
        from meshlab.tables.seal import seal

        return seal(self._existing(), self.uid)

    def stats(self, *, progress: bool = True) -> dict[str, Any]:
        """What the log holds: days, bytes, events by op and by dialect, rejects.

        Reads every byte of the log, and of an event no more than its op needs; keys are
        ``first_day``, ``last_day``, ``days``, ``bytes``, ``events``, the ops,
        ``in <dialect>``, ``rejects``, ``reject_bytes``, and ``damage``: the rejects and
        findings that are more than a torn tail.
        """
        events = self.events(columns=("op", "dialect"), progress=progress)
        table, segments = events.to_arrow(), events.segments
        days = segments.column("segment").to_pylist()
        ops, dialects = (_counts(table.column(name)) for name in ("op", "dialect"))
        return {
            "first_day": days[0] if days else None,
            "last_day": days[-1] if days else None,
            "days": len(days),
            "bytes": sum(segments.column("bytes").to_pylist()),
            "events": table.num_rows,
            **{op: ops.get(op, 0) for op in OPS},
            **{f"in {dialect}": dialects.get(dialect, 0) for dialect in DIALECTS},
            "rejects": sum(segments.column("rejects").to_pylist()),
            "reject_bytes": sum(segments.column("reject_bytes").to_pylist()),
            "damage": events.damage,
        }

    def __repr__(self) -> str:
        return f"<UserStore {self.uid}: {self._summary()}>"

    def _repr_html_(self) -> str:
        days = paths.segment_days(self.root)[::-1] if self.root.is_dir() else []
        rows = [[day, size_text(paths.segment_size(self.root, day))] for day in days[:SHOWN]]
        return headline("User", self.uid, self._summary()) + table(("day", "bytes"), rows, len(days))

    def _summary(self) -> str:
        if not self.root.is_dir():
            return "not created yet"
        days = paths.segment_days(self.root)
        return f"{counted(len(days), 'day')}, {days[0]} to {days[-1]}" if days else "no segments"

    def _existing(self) -> Path:
        return paths.existing_user(self.store.path, self.uid)


def open(store: str | os.PathLike[str] | None = None, *, durability: Durability = "commit") -> Store:
    """Open a store: the one named, else ``$MESH_STORE``, else ``./mesh_store``.

    Touches nothing: reading a store or user that is not there is an error, the first
    append creates both.
    """
    return Store(store, durability=durability)


def _folded_seq(root: Path, uid: str) -> int:
    """The last seq that a checkpoint has folded: its segment may have been lost since."""
    if not (root / paths.SNAPSHOT).exists():
        return 0
    from meshlab.snapshot.manifest import Manifest, current

    try:
        found = current(root, uid)
    except (SnapshotError, StorageError):
        return 0
    return found.seq if isinstance(found, Manifest) else 0


def _counts(column: Any) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}


def _nbytes(root: Path) -> int:
    """Bytes of the log of a user, by the sizes of its files."""
    return sum(paths.segment_size(root, day) for day in paths.segment_days(root))


def _bar(root: Path, title: str, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(
        total=_nbytes(root),
        desc=title,
        unit="B",
        unit_scale=True,
        delay=1,
        leave=False,
        disable=None if progress else True,
    )
