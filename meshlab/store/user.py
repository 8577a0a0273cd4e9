"""One user: a log to append to, and what can be asked of it.

>>> import meshlab, tempfile
>>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
>>> ann
<UserStore ann: not created yet>
>>> ann.append({"Insert": {"id": "m1", "amplitude": 0.5}}).last_seq
1
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshlab.bars import progress_bar
from meshlab.dialects import OPS
from meshlab.errors import SnapshotError
from meshlab.markup import SHOWN, headline, table
from meshlab.wal import paths
from meshlab.wal.commit import Receipt
from meshlab.wal.computed import Choose
from meshlab.wal.lines import DIALECTS
from meshlab.wal.writer import Event
from meshlab.wording import counted, size_text

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from meshlab.diff import Diff
    from meshlab.growth.growth import Growth
    from meshlab.history import History
    from meshlab.plan import Window
    from meshlab.snapshot.checkpoint import CheckpointReport
    from meshlab.snapshot.state import State
    from meshlab.snapshot.vacuum import VacuumReport
    from meshlab.store.store import Store
    from meshlab.tables.events import Events
    from meshlab.tables.load import Moment
    from meshlab.tables.seal import SealedFile
    from meshlab.vault import SolitonVault
    from meshlab.wal.repair import RepairReport
    from meshlab.wal.verify import Verification


class UserStore:
    """One user's log and what it means.  Reading takes no lock and writes nothing.

    >>> import meshlab, tempfile
    >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
    >>> _ = ann.append({"Insert": {"id": "m1", "content": "the sea"}})
    >>> ann.state().get("m1")
    {'id': 'm1', 'content': 'the sea'}
    """

    def __init__(self, store: Store, uid: str) -> None:
        self.store = store
        self.uid = uid

    @property
    def root(self) -> Path:
        """The user's directory, which need not exist yet.

        >>> import meshlab
        >>> meshlab.open("/srv/mesh")["ann"].root
        PosixPath('/srv/mesh/ann')
        """
        return paths.user_root(self.store.path, self.uid)

    def append(self, event: Event, *, key: str | None = None) -> Receipt:
        """Append one event; returns when it is durable.  See ``Writer.append``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> receipt = ann.append({"Insert": {"id": "m1", "amplitude": 0.5}}, key="visit-7")
        >>> receipt.last_seq, receipt.nbytes > 0
        (1, True)
        """
        return self.store._writer(self.uid).append(event, key=key)

    def append_many(self, events: Iterable[Event], *, key: str | None = None) -> Receipt:
        """Append a batch, all of it or nothing.  See ``Writer.append_many``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> receipt = ann.append_many([{"Insert": {"id": "m1"}}, {"Delete": "m0"}])
        >>> receipt.first_seq, receipt.last_seq
        (1, 2)
        """
        return self.store._writer(self.uid).append_many(events, key=key)

    def append_chosen(self, choose: Choose) -> None:
        """Append what is chosen when the log's end is known.  See ``Writer.append_chosen``.

        >>> import meshlab, tempfile
        >>> from meshlab.wal.commit import Request
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> request = Request([b'{"Delete":"m0"}'], None)
        >>> ann.append_chosen(lambda end: [request] if end.seq == 0 else [])
        >>> request.receipt.last_seq
        1
        """
        self.store._writer(self.uid).append_chosen(choose)

    def close(self) -> None:
        """Close the files this user is appended to; the next append opens them anew, which repairs a poisoned log.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Delete": "m0"})
        >>> ann.close()
        >>> ann.append({"Delete": "m1"}).last_seq
        2
        """
        self.store._close_writer(self.uid)

    def events(self, **selection: Any) -> Events:
        """The user's events; takes what ``Store.events`` takes.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append_many([{"Insert": {"id": "m1"}}, {"Delete": "m1"}])
        >>> ann.events(ops="delete", columns=("seq", "id")).to_pylist()
        [{'seq': 2, 'id': 'm1'}]
        """
        return self.store.events(self.uid, **selection)

    def state(self, at: Moment | None = None, *, progress: bool = True) -> State:
        """The memories alive after the last event, or at a moment.

        ``at`` is a time, inclusive (a datetime, RFC 3339 text or µs since 1970), or the
        place of an event, as ``20250707:1234``, which counts.  Raises ``NotRestorable``
        with the nearest moments that can be restored; see ``windows``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> first = ann.append({"Insert": {"id": "m1"}})
        >>> _ = ann.append({"Delete": "m1"})
        >>> len(ann.state()), len(ann.state(at=first.lsn))
        (0, 1)
        """
        from meshlab.replay import replay

        return replay(self._existing(), self.uid, at, progress=progress)

    def windows(self) -> list[Window]:
        """The intervals of moments that can be restored, oldest first, and why there are holes.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Insert": {"id": "m1"}})
        >>> [(window.start, window.end, window.source) for window in ann.windows()]
        [(None, None, 'the beginning of the log')]
        """
        from meshlab.replay import windows

        return windows(self._existing(), self.uid)

    def diff(self, t0: Moment, t1: Moment | None = None, *, progress: bool = True) -> Diff:
        """What changed between two moments (``t1`` None: now), per record and field; moments as in ``state``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> first = ann.append({"Insert": {"id": "m1", "amplitude": 0.5}})
        >>> _ = ann.append({"Update": {"id": "m1", "amplitude": 0.6}})
        >>> ann.diff(first.lsn).fields
        {'amplitude': 1}
        """
        from meshlab.diff import Diff

        return Diff(self.state(t0, progress=progress), self.state(t1, progress=progress))

    def history(self, id: str, *, progress: bool = True) -> History:
        """The life of one memory: its events still in the log, and the state of it after each.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append_many([{"Insert": {"id": "m1"}}, {"Delete": "m1"}])
        >>> [row["op"] for row in ann.history("m1").to_pylist()]
        ['insert', 'delete']
        """
        from meshlab.history import history

        return history(self._existing(), self.uid, id, progress=progress)

    def verify(self, *, progress: bool = True) -> Verification:
        """Check every byte of the log; damage is in the result, not an error.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Delete": "m0"})
        >>> found = ann.verify()
        >>> found.damage, found.tallies[0].events
        ([], 1)
        """
        from meshlab.tables.digests import DuckDigests
        from meshlab.timeline import deleted_segments
        from meshlab.wal.verify import verify

        root = self._existing()
        with progress_bar(f"verify {self.uid}", log_size(root), shown=progress) as bar:
            return verify(root, digests=DuckDigests(), progress=bar.update, gone=deleted_segments(root, self.uid))

    def repair(self, target: str | os.PathLike[str], *, progress: bool = True) -> RepairReport:
        """Write a cleaned copy of the log to ``target``; the original is not touched.

        Raises ``SnapshotError`` once there are checkpoints: layers stand for the log byte
        by byte, so damage is accepted there, not cleaned away.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Delete": "m0"})
        >>> report = ann.repair(tempfile.mkdtemp() + "/cleaned")
        >>> report.events, report.left_out
        (1, [])
        """
        from meshlab.snapshot.manifest import Manifest, current
        from meshlab.wal.repair import repair

        root = self._existing()
        found = current(root, self.uid)
        if isinstance(found, Manifest) and found.generation:
            raise SnapshotError(
                f"{root}: a log with checkpoints has no cleaned copy: its layers refer to the bytes as they are",
                hint="leave the damaged bytes out with 'meshlab checkpoint --accept FILE:OFFSET'",
            )
        with progress_bar(f"repair {self.uid}", log_size(root), shown=progress) as bar:
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

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Insert": {"id": "m1"}})
        >>> report = ann.checkpoint(retain=30)
        >>> report.generation, report.records
        (1, 1)
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
        """What the log is full of, why, until when, and which checkpoint policy to set; see ``Store.growth``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Insert": {"id": "m1"}})
        >>> ann.growth().by("op").to_arrow()["key"].to_pylist()
        ['insert']
        """
        return self.store.growth(self.uid, executor=executor, progress=progress)

    def vacuum(self, *, apply: bool = False) -> VacuumReport:
        """Say what retention no longer needs, and with ``apply`` seal and delete it.

        Raises ``CheckpointBusy``, ``SnapshotError``, ``StorageError``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append({"Insert": {"id": "m1"}})
        >>> _ = ann.checkpoint()
        >>> [fate.goes for fate in ann.vacuum().segments]
        [False]
        """
        from meshlab.snapshot.vacuum import vacuum

        return vacuum(self._existing(), self.uid, apply=apply)

    def vault(self, *, accept: Collection[str] = ()) -> SolitonVault:
        """A ``SolitonVault`` over this user: memories to store, recall, change and search.

        Opening reads the snapshot and the log behind it: keep the vault.  Raises
        ``DamageFound`` unless every damaged place is in ``accept``.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> vault = ann.vault()
        >>> id = vault.store_memory("sea", "The tide came in at six.", importance=0.49)
        >>> vault.recall(id)["amplitude"]
        0.707
        """
        from meshlab.vault import SolitonVault

        return SolitonVault(self, accept=accept)

    def seal(self) -> list[SealedFile]:
        """Make columnar copies of finished segments, which load many times faster.

        >>> import meshlab, tempfile
        >>> from meshlab.testing import build_log
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = build_log([[{"Delete": "m0"}], [{"Delete": "m1"}]], per_day=1).write(ann.root)
        >>> [sealed.segment for sealed in ann.seal()]
        ['20250701']
        """
        from meshlab.tables.seal import seal

        return seal(self._existing(), self.uid)

    def stats(self, *, progress: bool = True) -> dict[str, Any]:
        """What the log holds: days, bytes, events by op and by dialect, rejects.

        Reads every byte of the log, and of an event no more than its op needs; keys are
        ``first_day``, ``last_day``, ``days``, ``bytes``, ``events``, the ops,
        ``in <dialect>``, ``rejects``, ``reject_bytes``, and ``damage``: the rejects and
        findings that are more than a torn tail.

        >>> import meshlab, tempfile
        >>> ann = meshlab.open(tempfile.mkdtemp())["ann"]
        >>> _ = ann.append_many([{"Insert": {"id": "m1"}}, {"Delete": "m1"}])
        >>> told = ann.stats()
        >>> told["events"], told["insert"], told["damage"]
        (2, 1, 0)
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


def _counts(column: Any) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}


def log_size(root: Path) -> int:
    """Bytes of the log of a user, by the sizes of its files."""
    return sum(paths.segment_size(root, day) for day in paths.segment_days(root))
