"""Checkpoints: the log so far, folded into layers, and a manifest that says so.

A checkpoint writes what changed, never what did not.  Steps, each of which may be the
last before a crash (docs/crash.md tells what is left): take ``checkpoint.lock``; note
under ``wal.lock`` how far the segments go; sync them; fold what no earlier checkpoint
folded, a stretch at a time, each into a layer of its own; merge layers that have become
many; read the new layers back and compute their hashes anew; keep the manifest in force
in ``history/``; put the new one in its place, which is the commit point.

Nothing is deleted here but layers this very checkpoint wrote and then did not need.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec

from meshlab.errors import CheckpointBusy, DamageFound, MeshlabError, SnapshotError, WalPoisoned, storage_errors
from meshlab.snapshot.bincode import read_bincode
from meshlab.snapshot.fold import FOLD_COLUMNS
from meshlab.snapshot.layers import LayerFolder
from meshlab.snapshot.manifest import (
    Accepted,
    Manifest,
    Range,
    current,
    digest_before,
    digest_of,
    history_path,
    next_generation,
    pack,
)
from meshlab.snapshot.ranges import rest
from meshlab.snapshot.stack import Stack
from meshlab.tables.events import Events, load_user
from meshlab.tables.load import Piece
from meshlab.wal.chain import Cursor
from meshlab.wal.files import REAL_FILES, Files, open_regular
from meshlab.wal.lines import Reject
from meshlab.wal.lock import LockFile, Poison
from meshlab.wal.paths import LOCK, SNAPSHOT, segment_days, segment_name, segment_size
from meshlab.wal.reader import resolve, tail_run
from meshlab.wal.sink import SyncedFile
from meshlab.wal.writer import sync_names, wall_clock

CHECKPOINT_LOCK = "checkpoint.lock"
_TRIAL = ".trial"
_LAST_ORPHANS = 100
LONGEST_RETENTION = 36_500
"""Days."""


class CheckpointReport(NamedTuple):
    """What a checkpoint did, or would do (``dry_run``).

    ``changed`` and ``gone`` count records written and deleted, ``bytes_folded`` bytes of
    the log; ``bytes_written`` is all that went into layers, ``bytes_of_change`` the part
    that was new, ``bytes_merged`` the part that rewrote older layers; ``bytes_saved`` are
    contents that were there already.
    """

    uid: str
    generation: int
    events: int
    bytes_folded: int
    records: int
    changed: int
    gone: int
    orphans: int
    layers: int
    bytes_written: int
    bytes_of_change: int
    bytes_merged: int
    bytes_saved: int
    accepted: int
    state_hash: str
    seconds: float
    dry_run: bool


def checkpoint(
    root: Path,
    uid: str,
    *,
    upgrade: bool = False,
    accept: Collection[str] = (),
    retain: int | None = None,
    dry_run: bool = False,
    progress: bool = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> CheckpointReport:
    """Fold what the log of a user gained since the last checkpoint.

    ``accept`` names damage, as ``wal-20250707.log:1234``, that is to be left out for
    good; ``retain`` sets for how many days back moments stay restorable.  With
    ``dry_run`` all the work is done but the last step, and undone.

    Raises ``CheckpointBusy``, ``DamageFound`` with every place that was not accepted,
    ``SnapshotError`` when the snapshot or folded bytes are not what they were, and for a
    phase-1 snapshot without ``upgrade``.
    """
    started = time.monotonic()
    if retain is not None and (type(retain) is not int or not 0 <= retain <= LONGEST_RETENTION):
        raise MeshlabError(
            f"a retention of {retain!r} days is none", hint=f"give whole days, from 0 to {LONGEST_RETENTION}"
        )
    with locked(root, files):
        work = _Work(root, uid, frozenset(accept), dry_run, progress, files, clock)
        report = work.run(upgrade, retain)
    return report._replace(seconds=time.monotonic() - started)


@contextmanager
def locked(root: Path, files: Files) -> Iterator[None]:
    """Hold ``checkpoint.lock``; the file is never deleted."""
    path = root / CHECKPOINT_LOCK
    with storage_errors("lock", path):
        fd = files.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointBusy(f"{root}: a checkpoint or vacuum of this user is under way") from None
        yield
    finally:
        files.close(fd)


@contextmanager
def wal_lock(root: Path, files: Files) -> Iterator[LockFile]:
    """Hold ``wal.lock``: no writer is in the middle of a frame."""
    path = root / LOCK
    with storage_errors("lock", path):
        lock = LockFile(path, files)
    try:
        with storage_errors("lock", path):
            lock.acquire()
        yield lock
    finally:
        lock.close()


def note_sizes(root: Path, files: Files) -> dict[str, int]:
    """The sizes of all segments, noted while no writer is in the middle of a frame.  Raises ``WalPoisoned``."""
    with wal_lock(root, files) as lock:
        poison = lock.read()[1]
        sizes = {day: segment_size(root, day) for day in segment_days(root)}
    if poison is not None:
        raise WalPoisoned(f"{root}: a write or sync of {segment_name(poison.segment)} failed")
    return sizes


def sync_pieces(root: Path, pieces: Iterable[Piece], files: Files) -> None:
    """Return when the segments of some pieces are on the medium; their names are for the caller."""
    for piece in pieces:
        _sync(root, piece, files)


def _sync(root: Path, piece: Piece, files: Files) -> None:
    """Sync a segment.  When that fails the page cache may lie, so nobody goes on before it is written anew."""
    path = root / segment_name(piece.segment)
    with storage_errors("sync", path):
        fd = files.open(path, os.O_RDONLY)
        try:
            files.sync(fd)
        except OSError:
            with wal_lock(root, files) as lock:
                found, known = Poison(piece.segment, piece.start), lock.read()[1]
                lock.write_poison(min(found, known) if known else found)
            raise
        finally:
            files.close(fd)


class _Work:
    """One checkpoint under way."""

    def __init__(
        self,
        root: Path,
        uid: str,
        accept: frozenset[str],
        dry_run: bool,
        progress: bool,
        files: Files,
        clock: Callable[[], int],
    ) -> None:
        self.root, self.uid, self.accept, self.dry_run = root, uid, accept, dry_run
        self.progress, self.files, self.clock = progress, files, clock

    def run(self, upgrade: bool, retain: int | None) -> CheckpointReport:
        found = current(self.root, self.uid)
        if isinstance(found, Path) and not upgrade:
            raise SnapshotError(
                f"{found}: a phase-1 snapshot; a checkpoint would end its use by phase-1 programs",
                hint="stop those programs, then run the checkpoint with --upgrade; the file is kept in history/",
            )
        before = found if isinstance(found, Manifest) else Manifest(uid=self.uid, created_at=self.clock())
        bincode = found if isinstance(found, Path) else None
        LayerFolder(self.root, self.files, _TRIAL).remove()  # a killed rehearsal may have left it
        if self.dry_run:
            return self._rehearse(before, bincode, retain)
        if found is None:
            commit(self.root, before, self.files)
        folder = LayerFolder(self.root, self.files)
        try:
            if bincode is not None:
                keep(self.root, 0, self.files)
            folder.prepare()
            return self._fold(before, bincode, folder, retain)
        except BaseException:
            abandon(self.root, self.uid, folder, self.files)
            raise

    def _rehearse(self, before: Manifest, bincode: Path | None, retain: int | None) -> CheckpointReport:
        """Fold into a folder of its own, which is deleted afterwards."""
        folder = LayerFolder(self.root, self.files, _TRIAL)
        try:
            folder.prepare()
            return self._fold(before, bincode, folder, retain)
        finally:
            folder.remove()

    def _fold(
        self, before: Manifest, bincode: Path | None, folder: LayerFolder, retain: int | None
    ) -> CheckpointReport:
        pieces = self._note_ends(before)
        stack = Stack(self.root, before, folder)
        base_time = before.base_time
        if bincode is not None:
            base_time = stack.add_map(read_bincode(bincode, progress=self.progress))
        start = Cursor(before.seq, before.sum, before.effective)
        events = load_user(self.root, self.uid, pieces, start=start, columns=FOLD_COLUMNS, progress=self.progress)
        stack.add(events.to_batches())
        folded, effective, rejects = self._take_stock(before, pieces, events)
        accepted = self._accept(before, rejects)
        stack.set_aside(self.uid, [reject for reject in rejects if _place(reject) in map(_place, accepted)])
        written = folder.nbytes
        stack.merge()
        if retain is None:
            retain = before.retain_days
        end = events.end
        after = msgspec.structs.replace(
            before,
            generation=next_generation(self.root, before),
            parent="" if bincode is not None else digest_of(self.root / SNAPSHOT),
            folded=folded,
            seq=end.seq,
            sum=end.sum,
            effective=effective,
            records=stack.records,
            state_hash=stack.hash.hexdigest(),
            layers=stack.layers,
            orphans=before.orphans + stack.orphans,
            last_orphans=(before.last_orphans + stack.last_orphans)[-_LAST_ORPHANS:],
            accepted=before.accepted + accepted,
            retain_days=retain,
            base_time=base_time,
            created_at=self.clock(),
            tool=tool(),
            bytes_of_change=written,
        )
        if after.folded == before.folded and bincode is None and retain == before.retain_days and before.generation:
            after = before
            folder.discard()
        elif not self.dry_run:
            stack.drop_unused()
            if before.generation or bincode is None:
                keep(self.root, before.generation, self.files)
            commit(self.root, after, self.files)
        return CheckpointReport(
            uid=self.uid,
            generation=after.generation,
            events=stack.events,
            bytes_folded=sum(p.stop - p.start for p in folded) - sum(p.stop - p.start for p in before.folded),
            records=after.records,
            changed=stack.changed,
            gone=stack.gone,
            orphans=stack.orphans,
            layers=len(after.layers),
            bytes_written=folder.nbytes,
            bytes_of_change=written,
            bytes_merged=folder.nbytes - written,
            bytes_saved=stack.bytes_saved,
            accepted=len(accepted),
            state_hash=after.state_hash,
            seconds=0.0,
            dry_run=self.dry_run,
        )

    def _note_ends(self, before: Manifest) -> list[Piece]:
        """How far the log goes, noted while no writer is in the middle of a frame; then on the medium."""
        sizes = note_sizes(self.root, self.files)
        pieces = [
            piece._replace(stop=sizes[piece.segment])
            for piece in rest(self.root, before)
            if sizes.get(piece.segment, 0) > piece.start  # what came after that look is for the next time
        ]
        sync_pieces(self.root, pieces, self.files)
        with storage_errors("sync", self.root):
            sync_names(self.root, self.files)
        return pieces

    def _take_stock(
        self, before: Manifest, pieces: list[Piece], events: Events
    ) -> tuple[list[Range], int, list[Reject]]:
        """The ranges folded by now, the effective time they end at, and the rejects on the way.

        What stands unfinished at the very end of the log is left for the next time.
        """
        folded, effective = list(before.folded), max(before.effective, events.end.effective)
        for index, (piece, read) in enumerate(zip(pieces, events.reads, strict=True)):
            assert piece.stop is not None
            stop, lines = piece.stop, piece.line - 1 + read.part.tally.lines
            run = tail_run(read.part.rejects, stop) if index == len(pieces) - 1 else []
            if run:
                stop, lines = run[0].offset, run[0].line - 1
            if stop > piece.start:
                first = read.end.effective if read.first is None else read.first
                times = read.end.effective, first
                self._append(folded, Range(piece.segment, piece.start, stop, b"", lines, *times, piece.start))
        return folded, effective, resolve(events.parts)

    def _append(self, folded: list[Range], new: Range) -> None:
        """Add a range; one that goes on where the last ends makes it longer."""
        fd = open_regular(self.root / segment_name(new.segment), os.O_RDONLY)
        try:
            new = new._replace(digest=digest_before(fd, new.stop))
        finally:
            os.close(fd)
        if folded and (folded[-1].segment, folded[-1].stop) == (new.segment, new.start):
            new = new._replace(start=folded.pop().start)
        folded.append(new)

    def _accept(self, before: Manifest, rejects: list[Reject]) -> list[Accepted]:
        """The damage an operator has accepted; raises ``DamageFound`` for any other."""
        known = set(map(_place, before.accepted))
        damage = [reject for reject in rejects if reject.kind != "torn" and _place(reject) not in known]
        refused = [reject for reject in damage if _named(reject) not in self.accept]
        if refused:
            raise DamageFound(_describe(self.root, refused), hint=_hint(refused), places=list(map(_named, refused)))
        return [Accepted(r.segment, r.offset, r.nbytes, r.kind, r.reason) for r in damage]


def keep(root: Path, generation: int, files: Files) -> None:
    """Give the snapshot in force a name in ``history/``; it is on the medium, bytes and name, when this returns."""
    target = history_path(root, generation)
    with storage_errors("write", target):
        if not target.parent.is_dir():
            files.mkdir(target.parent)
        if not generation:
            files.sync_file(root / SNAPSHOT)  # a phase-1 program need not have done it
        if target.exists() and target.read_bytes() != (root / SNAPSHOT).read_bytes():
            raise SnapshotError(
                f"{target}: holds another snapshot than the one in force, which has the same generation",
                hint="move it aside: it belongs to a history that was left when an older snapshot was put back",
            )
        with suppress(FileExistsError):
            files.link(root / SNAPSHOT, target)
        files.sync_directory(target.parent)
        files.sync_directory(root)


def commit(root: Path, manifest: Manifest, files: Files) -> None:
    """Put a manifest in force: it is durable, whole, when this returns."""
    path, temporary = root / SNAPSHOT, root / f".{SNAPSHOT}.tmp"
    with storage_errors("write", path):
        with suppress(FileNotFoundError):
            files.unlink(temporary)
        try:
            with SyncedFile(temporary, files) as sink:
                sink.write(pack(manifest))
            files.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                files.unlink(temporary)
            raise
        files.sync_directory(root)


def abandon(root: Path, uid: str, folder: LayerFolder, files: Files) -> None:
    """Remove what a checkpoint or vacuum that failed has written.

    It may have failed behind the rename of its manifest: what the one in force names stays.
    """
    try:
        found = current(root, uid)
    except (MeshlabError, OSError):
        return
    named = {layer.name for layer in found.layers} if isinstance(found, Manifest) else set()
    folder.drop([layer for layer in folder.written if layer.name not in named])
    if isinstance(found, Path) and not any(folder.path.glob("*")):
        with suppress(OSError):
            files.unlink(history_path(root, 0))


@cache
def tool() -> str:
    """What made a manifest."""
    try:
        return f"meshlab {version('meshlab')}"
    except PackageNotFoundError:  # run from a folder, not installed
        return "meshlab"


def _place(reject: Reject | Accepted) -> tuple[str, int, int]:
    return reject.segment, reject.offset, reject.nbytes


def _named(reject: Reject) -> str:
    """A place as an operator names it."""
    return f"{segment_name(reject.segment)}:{reject.offset}"


_SHOWN = 5


def _describe(root: Path, refused: list[Reject]) -> str:
    places = [f"{_named(r)} (line {r.line}): {r.kind}, {r.reason}" for r in refused[:_SHOWN]]
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return f"{root}: {len(refused)} damaged {'place' if len(refused) == 1 else 'places'}: {'; '.join(places)}{more}"


def _hint(refused: list[Reject]) -> str:
    options = " ".join(f"--accept {_named(reject)}" for reject in refused[:_SHOWN])
    return f"look at them with 'meshlab verify'; to go on without those bytes, for good: {options}"
