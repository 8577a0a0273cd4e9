"""The manifest: what a checkpoint says of the layers, and of the log they stand for.

``snapshot.bin`` is, in order (numbers little-endian):

    8 bytes    ``MESHSNAP``
    u32        version of the format
    u64        length of the manifest in bytes
    ...        the manifest: a MessagePack map
    32 bytes   SHA-256 of all that stands before

Earlier manifests stand in ``history/`` under their generation, byte for byte.

>>> manifest = Manifest(uid="ann")
>>> unpack(pack(manifest)) == manifest
True
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec

from meshlab.errors import SnapshotError, StorageError, storage_errors
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.files import open_regular
from meshlab.wal.frame import NO_SUM
from meshlab.wal.paths import SNAPSHOT, segment_day, segment_name

MAGIC = b"MESHSNAP"
VERSION = 1
HISTORY, LAYERS = "history", "layers"

RECORDS, CONTENTS, QUARANTINE, LEDGER = "records", "contents", "quarantine", "ledger"
"""Kinds of layers."""

RETAIN_DAYS = 14
PROBE = 4096
"""Bytes before the end of a folded range that its digest covers, at most."""

_HEAD = struct.Struct("<8sIQ")
_SUM = 32
_LARGEST = 256 << 20
_ENTRY = re.compile(r"(\d{8})\.bin", re.ASCII)
_LAYER = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Range(NamedTuple):
    """Bytes ``start`` to ``stop`` of a segment that have been folded.

    ``digest`` is the MD5 of the last bytes (``PROBE`` at most) before ``stop``, ``lines``
    the number of physical lines of the segment before ``stop``, ``effective`` the largest
    effective time when this range had been folded.  Its last checkpoint folded it from
    ``part`` on; ``first`` is the effective time of the first event there (µs;
    ``LONG_AGO``: not known).
    """

    segment: str
    start: int
    stop: int
    digest: bytes
    lines: int
    effective: int
    first: int = LONG_AGO
    part: int = 0


class Retired(NamedTuple):
    """A segment that was folded and deleted: its bytes, the last seq and sum and the effective time (µs) behind it.

    ``digest`` is that of its end, as in a ``Range``: a file of that name with these
    bytes is the old one, which a crash kept from being deleted; any other is a new one.
    """

    segment: str
    nbytes: int
    seq: int
    sum: bytes
    digest: bytes
    effective: int = LONG_AGO


class Layer(NamedTuple):
    """A file in ``layers/``, named by its SHA-256; ``first`` and ``last`` bound its ids."""

    name: str
    kind: str
    rows: int
    nbytes: int
    first: str = ""
    last: str = ""


class Accepted(NamedTuple):
    """Damage an operator has accepted: its place, and what it was."""

    segment: str
    offset: int
    nbytes: int
    kind: str
    reason: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one checkpoint left; see the contract of each field.

    ``folded``      ranges of the log the layers hold, in the order they were folded
    ``retired``     segments that were deleted after they had been folded
    ``seq, sum``    the last frame folded
    ``effective``   largest effective time folded (µs)
    ``layers``      oldest first; a record of a later layer replaces that of an earlier
    ``orphans``     how many, of which ``last_orphans`` are the last hundred
    ``state_hash``  of all live records, hexadecimal
    """

    uid: str
    generation: int = 0
    parent: str = ""
    folded: list[Range] = []
    retired: list[Retired] = []
    seq: int = 0
    sum: bytes = NO_SUM
    effective: int = LONG_AGO
    records: int = 0
    state_hash: str = "0" * 32
    layers: list[Layer] = []
    orphans: int = 0
    last_orphans: list[dict[str, Any]] = []
    accepted: list[Accepted] = []
    retain_days: int = RETAIN_DAYS
    base_time: int = LONG_AGO
    created_at: int = 0
    tool: str = ""
    bytes_of_change: int = 0

    @property
    def folded_ends(self) -> dict[str, int]:
        """Per segment, the bytes folded from its start on."""
        return {piece.segment: piece.stop for piece in sorted(self.folded)}

    def of_kind(self, kind: str) -> list[Layer]:
        """The layers of a kind, oldest first."""
        return [layer for layer in self.layers if layer.kind == kind]


class Entry(NamedTuple):
    """One file in ``history/``; without a manifest it is a phase-1 map or has a ``problem``."""

    generation: int
    path: Path
    manifest: Manifest | None
    problem: str


# Bytes


def pack(manifest: Manifest) -> bytes:
    """The bytes of ``snapshot.bin``."""
    body: bytes = msgpack.packb(msgspec.to_builtins(manifest, builtin_types=(bytes,)))
    data = _HEAD.pack(MAGIC, VERSION, len(body)) + body
    return data + hashlib.sha256(data).digest()


def unpack(data: bytes) -> Manifest:
    """The manifest in the bytes of a file.  Raises ``ValueError`` saying what is wrong with them."""
    if len(data) < _HEAD.size:
        raise ValueError(f"expected {_HEAD.size} bytes of header, found {len(data)}: the file is cut")
    magic, version, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"expected {MAGIC.decode()} at offset 0, found {magic!r}")
    if version > VERSION:
        raise ValueError(f"its format is version {version}; this meshlab reads {VERSION} and older")
    size = _HEAD.size + length + _SUM
    if len(data) != size:
        raise ValueError(f"expected {size} bytes in all, found {len(data)}: the file is cut or was added to")
    if hashlib.sha256(data[:-_SUM]).digest() != data[-_SUM:]:
        raise ValueError(f"the checksum at offset {size - _SUM} does not hold: bytes were changed")
    try:
        found = msgspec.convert(msgpack.unpackb(data[_HEAD.size : -_SUM]), Manifest, builtin_types=(bytes,))
    except (msgspec.MsgspecError, msgpack.UnpackException, ValueError) as error:
        raise ValueError(f"the manifest at offset {_HEAD.size} cannot be read: {error}") from None
    _refuse_other_names(found)
    return found


def _refuse_other_names(manifest: Manifest) -> None:
    """The names in it become paths: they are those of layers and of days."""
    for layer in manifest.layers:
        if not _LAYER.fullmatch(layer.name):
            raise ValueError(f"expected layers named by their SHA-256, found {layer.name[:100]!r}")
    for day in {one.segment for one in manifest.folded} | {one.segment for one in manifest.retired}:
        if segment_day(segment_name(day)) is None:
            raise ValueError(f"expected segments named by their day, found {day[:100]!r}")


# Files


def history_path(root: Path, generation: int) -> Path:
    """Where an earlier ``snapshot.bin`` stands; generation 0 is what was there before the first checkpoint."""
    return root / HISTORY / f"{generation:08d}.bin"


def layer_path(root: Path, layer: Layer) -> Path:
    """Where the file of a layer stands."""
    return root / LAYERS / (layer.name + (".arrow" if layer.kind == CONTENTS else ".parquet"))


def read_manifest(path: Path, uid: str) -> Manifest:
    """The manifest in a file.  Raises ``SnapshotError`` when it is damaged, newer, or of another user."""
    with storage_errors("read", path):
        data = _read(path)
    try:
        manifest = unpack(data)
    except ValueError as error:
        raise SnapshotError(f"{path}: {error}", hint=_STILL) from None
    if manifest.uid != uid:
        raise SnapshotError(
            f"{path}: expected the snapshot of user {uid!r}, found that of {manifest.uid!r}", hint=_STILL
        )
    return manifest


_STILL = "the log was not touched; 'meshlab windows' tells what can be restored, history/ holds earlier snapshots"


def current(root: Path, uid: str) -> Manifest | Path | None:
    """What the log of a user starts from: a manifest, the path of a phase-1 map, or nothing.

    Raises ``SnapshotError`` when the snapshot cannot be trusted, has gone although there
    were checkpoints, or was replaced by a phase-1 program.
    """
    path = root / SNAPSHOT
    with storage_errors("read", path):
        try:
            head = _read(path, len(MAGIC))
        except FileNotFoundError:
            _refuse_lost(root)
            return None
    if head == MAGIC:
        return read_manifest(path, uid)
    _refuse_replaced(root, path)
    return path


def history(root: Path, uid: str) -> list[Entry]:
    """The earlier snapshots, oldest first; unusable ones say why."""
    entries = []
    for name in _names(root / HISTORY):
        match = _ENTRY.fullmatch(name)
        if match is None:
            continue
        path, generation = root / HISTORY / name, int(match[1])
        try:
            bincode = generation == 0 and _read(path, len(MAGIC)) != MAGIC
            manifest = None if bincode else read_manifest(path, uid)
            problem = ""
            if manifest is not None and manifest.generation != generation:
                problem = f"{path}: holds generation {manifest.generation}"
                manifest = None
        except (SnapshotError, StorageError, OSError) as error:
            manifest, problem = None, str(error)
        entries.append(Entry(generation, path, manifest, problem))
    return entries


def in_force(root: Path) -> tuple[int, int, int] | None:
    """What tells the snapshot in force from any other."""
    try:
        status = os.stat(root / SNAPSHOT)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def digest_of(path: Path) -> str:
    """What the next manifest calls its parent: the SHA-256 of the file, hexadecimal; empty when there is none."""
    try:
        return hashlib.sha256(_read(path)).hexdigest()
    except FileNotFoundError:
        return ""


def next_generation(root: Path, manifest: Manifest) -> int:
    """The generation behind a manifest, and behind all in ``history/``: an older one may have been put back by hand."""
    kept = [int(match[1]) for name in _names(root / HISTORY) if (match := _ENTRY.fullmatch(name))]
    return max([manifest.generation, *kept]) + 1


def check_range(root: Path, piece: Range) -> str:
    """Why the bytes of a folded range are not what was folded; empty when they are."""
    path = root / segment_name(piece.segment)
    try:
        fd = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror or error}"
    try:
        size = os.fstat(fd).st_size
        if size < piece.stop:
            return f"{path.name} has {size} bytes; {piece.stop} were folded"
        if digest_before(fd, piece.stop) != piece.digest:
            return f"{path.name} differs before offset {piece.stop} from what was folded"
    finally:
        os.close(fd)
    return ""


def digest_before(fd: int, stop: int) -> bytes:
    """MD5 of the last bytes before an offset, ``PROBE`` at most."""
    start = max(0, stop - PROBE)
    return hashlib.md5(os.pread(fd, stop - start, start), usedforsecurity=False).digest()


def _read(path: Path, size: int = _LARGEST) -> bytes:
    fd = open_regular(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(fd, size), b"")) if size == _LARGEST else os.read(fd, size)
    finally:
        os.close(fd)


def _names(folder: Path) -> list[str]:
    """The files in a folder, sorted; temporary ones begin with a dot and do not count."""
    with storage_errors("list", folder):
        try:
            return sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except FileNotFoundError:
            return []


def _refuse_lost(root: Path) -> None:
    """Checkpoints without their manifest mean that events may be gone from the log."""
    for folder in (HISTORY, LAYERS):
        if _names(root / folder):
            raise SnapshotError(
                f"{root}: expected {SNAPSHOT} beside the files in {folder}/, found none",
                hint="restore snapshot.bin from a backup or from history/; without it the state is unknown",
            )


def _refuse_replaced(root: Path, path: Path) -> None:
    """A phase-1 map may stand beside layers only while the first checkpoint over it is under way."""
    names = _names(root / HISTORY)
    kept = history_path(root, 0)
    upgrading = names == [kept.name] and _same_bytes(kept, path)
    if (names or _names(root / LAYERS)) and not upgrading:
        raise SnapshotError(
            f"{path}: expected {MAGIC.decode()} at offset 0, for checkpoints were made, found {_read(path, 8)!r}: "
            "the file is damaged, or a phase-1 program is still writing here",
            hint="stop such a program, keep the file aside, put back the newest manifest of history/ or of a backup",
        )


def _same_bytes(a: Path, b: Path) -> bool:
    with storage_errors("read", b):
        if os.path.samefile(a, b):
            return True
        if os.path.getsize(a) != os.path.getsize(b):
            return False
        return _file_digest(a) == _file_digest(b)


def _file_digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
