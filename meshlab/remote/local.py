"""A user on this disk, as a push sees it: which files there are, how far they are durable, and what is in them.

The look itself costs a listing and no lock but ``wal.lock`` for the moment in which the
sizes of the segments are noted; see docs/remote.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import DamageFound, SnapshotError, storage_errors
from meshlab.remote.image import Image, home_of
from meshlab.replay import steadily
from meshlab.snapshot.checkpoint import note_sizes, sync_pieces
from meshlab.snapshot.manifest import (
    HISTORY,
    LAYERS,
    MAGIC,
    RETAIN_DAYS,
    Accepted,
    Manifest,
    current,
    digest_before,
    history,
    in_force,
    layer_path,
)
from meshlab.snapshot.ranges import undeleted
from meshlab.tables.digests import DuckDigests
from meshlab.tables.load import Piece
from meshlab.wal.chain import ORIGIN, Cursor, resumed
from meshlab.wal.files import Files, open_regular
from meshlab.wal.lines import Reject, md5_digests
from meshlab.wal.paths import SNAPSHOT, segment_day, segment_name
from meshlab.wal.reader import Part, resolve, scan_segment, tail_run
from meshlab.wal.verify import is_damage, last_gone

Print = tuple[int, int, int, int]
"""What tells a file from the same file at another time: inode, size, and times of change."""

FEW = 1 << 20
"""Bytes below which sums are computed one by one."""


class Local(NamedTuple):
    """One look at a user.

    ``others`` are the files besides segments, by name; ``sizes`` the bytes of the
    segments that no vacuum has retired; ``snapshot`` what is in force, and ``digests``
    the SHA-256 of each generation that is kept.
    """

    root: Path
    uid: str
    snapshot: Manifest | Path | None
    others: dict[str, Path]
    sizes: dict[str, int]
    digests: dict[int, str]

    @property
    def manifest(self) -> Manifest | None:
        """The manifest in force."""
        return self.snapshot if isinstance(self.snapshot, Manifest) else None

    @property
    def generation(self) -> int:
        """The number of the snapshot in force, 0 for a phase-1 map, -1 without one."""
        if self.snapshot is None:
            return -1
        return self.snapshot.generation if isinstance(self.snapshot, Manifest) else 0

    @property
    def retain_days(self) -> int:
        """For how many days back moments are to be restorable."""
        return self.manifest.retain_days if self.manifest is not None else RETAIN_DAYS

    def home(self, name: str) -> str:
        """The name under which the blocks of a file stand in the bucket."""
        return home_of(name, self.generation)


class Gained(NamedTuple):
    """What the log of a user has beyond an image.

    ``ends`` is how far each segment goes now, to the end of its last whole line or
    frame; ``end`` where the chain stands there; ``accepted`` the damage that stops nobody.
    """

    ends: dict[str, int]
    end: Cursor
    accepted: list[Accepted]


def prints(root: Path) -> dict[str, Print]:
    """The prints of all files of a user that may change; layers never do.

    Costs two listings and a look at each file.  Raises ``NotFound``, ``StorageError``.
    """
    found = {}
    with storage_errors("look at", root):
        for folder in ("", HISTORY):
            try:
                entries = list(os.scandir(root / folder))
            except FileNotFoundError:
                if folder:
                    continue
                raise
            for entry in entries:
                if _is_ours(entry.name, folder):
                    status = entry.stat(follow_symlinks=False)
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    found[name] = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return found


def _is_ours(name: str, folder: str) -> bool:
    if folder == HISTORY:
        return name[0].isdigit() and name.endswith((".bin", ".pin"))
    return name == SNAPSHOT or segment_day(name) is not None


def look(root: Path, uid: str, files: Files) -> Local:
    """What stands in a user's directory, as one snapshot in force goes with it.

    Raises ``SnapshotError``, ``WalPoisoned``, ``StorageError``.
    """
    return steadily(root, lambda: _look(root, uid, files))


def _look(root: Path, uid: str, files: Files) -> Local:
    before = in_force(root)
    found, entries = current(root, uid), history(root, uid)
    names = [name for name in prints(root) if name.startswith(HISTORY)]
    others = {name: root / name for name in sorted(names)}
    manifests = [entry.manifest for entry in entries if entry.manifest is not None]
    digests = {one.generation: _digest(root / home_of(SNAPSHOT, one.generation)) for one in manifests}
    if found is not None:
        others[SNAPSHOT] = root / SNAPSHOT
    if isinstance(found, Manifest):
        digests[found.generation] = _digest(root / SNAPSHOT)
        others |= _layers(root, found, manifests)
    sizes = note_sizes(root, files)
    if isinstance(found, Manifest):
        left = undeleted(root, found)
        sizes = {day: size for day, size in sizes.items() if day not in left or left[day].stop != size}
    if in_force(root) != before:
        raise SnapshotError(f"{root}: another snapshot came into force during the look")
    return Local(root, uid, found, others, sizes, digests)


def _layers(root: Path, manifest: Manifest, earlier: list[Manifest]) -> dict[str, Path]:
    """The layers of the manifest in force, and those of earlier ones that are there."""
    needed = {layer_path(root, layer) for layer in manifest.layers}
    needed |= {path for one in earlier for layer in one.layers if (path := layer_path(root, layer)).exists()}
    return {f"{LAYERS}/{path.name}": path for path in sorted(needed)}


def _digest(path: Path) -> str:
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def snapshot_digest(local: Local) -> str:
    """The SHA-256 of the snapshot in force; empty for none, and for a phase-1 map."""
    return local.digests[local.generation] if local.manifest is not None else ""


def is_manifest(data: bytes) -> bool:
    """Whether the bytes of a snapshot are those of a manifest, not of a phase-1 map."""
    return data.startswith(MAGIC)


# Durable, and sound


def make_durable(local: Local, known: Mapping[str, int], files: Files) -> None:
    """Return when all that is derived from is on the medium: what ``known`` does not cover, and the names in it.

    The name of the user's directory is for the caller, who syncs those of all users at once.
    """
    grown = [Piece(day, known.get(day, 0), size) for day, size in local.sizes.items() if size > known.get(day, 0)]
    sync_pieces(local.root, grown, files)
    with storage_errors("sync", local.root):
        if local.snapshot is not None:
            files.sync_file(local.root / SNAPSHOT)
        for folder in (local.root / HISTORY, local.root / LAYERS, local.root):
            if folder.is_dir():
                files.sync_directory(folder)


def read_gain(local: Local, image: Image | None, accept: Collection[str]) -> Gained:
    """Check what the log has beyond an image: sums, chain, damage.

    ``accept`` names damage as ``wal-20250707.log:1234``.  Raises ``DamageFound`` for any
    that neither it, nor a checkpoint, nor an earlier push has accepted.
    """
    known = {} if image is None else {day: file.nbytes for day, file in image.segments.items()}
    before = [] if image is None else image.accepted
    cursor = ORIGIN if image is None else image.end
    parts, days = [], sorted(day for day, size in local.sizes.items() if size > known.get(day, 0))
    gone = _gone(local)
    for day in days:
        start, stop = known.get(day, 0), local.sizes[day]
        part, cursor = _scan(local.root, day, start, stop, resumed(cursor, last_gone(gone, day)))
        parts.append(part)
    ends = dict(local.sizes)
    if parts and (run := tail_run(parts[-1].rejects, ends[days[-1]])):
        ends[days[-1]] = run[0].offset
    if local.manifest is not None:
        cursor = cursor._replace(effective=max(cursor.effective, local.manifest.effective))
    return Gained(ends, cursor, before + _accept(local, resolve(parts), before, accept))


def _gone(local: Local) -> dict[str, tuple[int, bytes]]:
    """Segments that are not here any more, with the last frame each held."""
    retired = local.manifest.retired if local.manifest is not None else []
    return {one.segment: (one.seq, one.sum) for one in retired if one.segment not in local.sizes and one.seq}


def _scan(root: Path, day: str, start: int, stop: int, cursor: Cursor) -> tuple[Part, Cursor]:
    """What a range of a segment holds, and where the log stands behind it."""
    digests = md5_digests if stop - start < FEW else DuckDigests()
    scan = scan_segment(root, day, cursor, offset=start, stop=stop, digests=digests)
    for _ in scan:
        pass
    return scan.part, scan.end


def _accept(local: Local, rejects: list[Reject], before: list[Accepted], accept: Collection[str]) -> list[Accepted]:
    """The damage somebody has accepted by now; raises ``DamageFound`` for any other."""
    folded = local.manifest.accepted if local.manifest is not None else []
    known = {one[:3] for one in (*folded, *before)}
    damage = [one for one in rejects if is_damage(one) and (one.segment, one.offset, one.nbytes) not in known]
    named = {f"{segment_name(one.segment)}:{one.offset}": one for one in damage}
    if refused := {place: one for place, one in named.items() if place not in accept}:
        shown = "; ".join(f"{place}: {one.kind}, {one.reason}" for place, one in list(refused.items())[:_SHOWN])
        more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        options = " ".join(f"--accept {place}" for place in list(refused)[:_SHOWN])
        raise DamageFound(
            f"{local.root}: damage that would go into the bucket: {shown}{more}",
            hint=f"look at it with 'meshlab verify'; to push those bytes as they are: {options}",
            places=list(refused),
        )
    return [Accepted(one.segment, one.offset, one.nbytes, one.kind, one.reason) for one in damage]


_SHOWN = 5


def ending(root: Path, day: str, stop: int) -> bytes:
    """MD5 of the last bytes before a place in a segment; see ``digest_before``."""
    path = root / segment_name(day)
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        return digest_before(file.fileno(), stop)
