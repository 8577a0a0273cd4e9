"""A user on this disk, as a push sees it: which files there are, how far they are durable, and what is in them.

The look itself costs a listing and no lock but ``wal.lock`` for the moment in which the
sizes of the segments are noted; see docs/remote.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import SnapshotError, storage_errors
from meshlab.remote.image import home_of, is_file
from meshlab.replay import steadily
from meshlab.snapshot.checkpoint import note_sizes, sync_pieces
from meshlab.snapshot.manifest import (
    HISTORY,
    LAYERS,
    MAGIC,
    RETAIN_DAYS,
    Manifest,
    current,
    digest_before,
    history,
    in_force,
    layer_path,
)
from meshlab.snapshot.ranges import undeleted
from meshlab.tables.load import Piece
from meshlab.wal.files import Files, open_regular
from meshlab.wal.paths import SNAPSHOT, segment_name

Print = tuple[int, int, int, int]
"""What tells a file from the same file at another time: inode, size, and times of change."""


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
    return is_file(f"{folder}/{name}" if folder else name)


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


def ending(root: Path, day: str, stop: int) -> bytes:
    """MD5 of the last bytes before a place in a segment; see ``digest_before``."""
    path = root / segment_name(day)
    with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
        return digest_before(file.fileno(), stop)
