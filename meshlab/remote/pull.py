"""Pull: a user out of the bucket, as pushed or as of a moment, into an empty place.

Every block is compared with its SHA-256, every layer with its name.  The user is put
together in a directory of its own and gets its place by one rename; see docs/remote.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pyarrow.compute as pc

from meshlab.errors import MeshlabError, NotRestorable, RemoteDamaged, StorageError, storage_errors
from meshlab.plan import Lsn, Plan
from meshlab.remote.image import Block, Image, StoredFile, home_of, is_layer, layer_digest
from meshlab.remote.line import Images, get_block
from meshlab.remote.notes import remote_folder
from meshlab.remote.patience import PatientBucket
from meshlab.remote.scratch import scratch_folder
from meshlab.remote.transfer import Lanes
from meshlab.remote.windows import Chosen, choose_head, plan_at
from meshlab.snapshot.checkpoint import locked, wal_lock
from meshlab.snapshot.manifest import HISTORY, LAYERS, layer_path
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.times import format_time
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import SNAPSHOT, segment_name, user_root
from meshlab.wal.sink import SyncedFile

PULLED, PLANNED, FAILED = "pulled", "planned", "failed"
REPLACED = "replaced"


class PulledUser(msgspec.Struct, frozen=True, kw_only=True):
    """What a pull did for one user, or would do.

    ``source`` is what the planner starts from and ``pieces`` what it reads of the log
    behind it; ``replaced`` is where the directory stands that was in the way.
    """

    uid: str
    status: str
    image: str = ""
    at: str = ""
    source: str = ""
    pieces: list[str] = []
    files: int = 0
    blocks: int = 0
    bytes: int = 0
    replaced: str = ""
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    kind: str = ""


class Part(msgspec.Struct, frozen=True):
    """A file to restore: under which name, from which blocks, and up to which byte."""

    name: str
    file: StoredFile
    stop: int

    @property
    def blocks(self) -> list[Block]:
        """The blocks that are needed."""
        return [block for block in self.file.blocks if block.start < self.stop]


class Puller:
    """Restores users of one bucket into one store; ``listed`` are images that were listed before, by user."""

    def __init__(
        self,
        bucket: PatientBucket,
        store: Path,
        lanes: Lanes,
        *,
        at: int | Lsn | None = None,
        image: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        files: Files = REAL_FILES,
        progress: Callable[[int], object] = lambda count: None,
        listed: Mapping[str, Images] | None = None,
    ) -> None:
        self.bucket, self.store, self.lanes = bucket, store, lanes
        self.listed = listed or {}
        self.at, self.image, self.force, self.dry_run = at, image, force, dry_run
        self.files, self.progress = files, progress

    def pull(self, uid: str) -> PulledUser:
        """Restore one user; what is wrong with it is in the result, not raised."""
        started = time.monotonic()
        try:
            done = self._pull(uid)
        except (MeshlabError, OSError) as error:
            known = error if isinstance(error, MeshlabError) else StorageError(f"{uid}: {error}")
            done = PulledUser(uid=uid, status=FAILED, error=known.message, hint=known.hint, kind=type(error).__name__)
        return msgspec.structs.replace(done, seconds=time.monotonic() - started)

    def _pull(self, uid: str) -> PulledUser:
        head, images = choose_head(self.bucket, uid, self.image, self.listed.get(uid))
        target = user_root(self.store, uid)
        with plan_at(self.bucket, head, images, self.at) as chosen:
            parts = self._parts(chosen)
            told = _told(uid, chosen, parts, moment_text(self.at))
            if self.dry_run:
                return told
            _refuse_used(target, self.force)
            with scratch_folder(self.store) as folder:
                root = folder / uid
                self.restore(root, parts)
                if self.at is not None:
                    cut(root, uid, chosen.plan, _ends(parts), self.files)
                self._sync(root)
                replaced = self._put_in_place(root, target)
        return msgspec.structs.replace(told, status=PULLED, replaced=replaced)

    def _parts(self, chosen: Chosen) -> list[Part]:
        return whole(chosen.head.image) if self.at is None else until(chosen)

    def restore(self, root: Path, parts: list[Part]) -> None:
        """Get the files of a user into a directory that is not there yet; they are synced, their names not."""
        with storage_errors("make", root):
            for folder in (root, root / HISTORY, root / LAYERS):
                if folder == root or any(Path(part.name).parent.name == folder.name for part in parts):
                    self.files.mkdir(folder)
        uid = root.name
        needed = [(part, block) for part in parts for block in part.blocks]
        got = self.lanes.fetch(lambda one: get_block(self.bucket, uid, one[0].file, one[1]), needed)
        for part in parts:
            self._write(root / part.name, part, got)

    def _write(self, path: Path, part: Part, got: Iterator[bytes]) -> None:
        with storage_errors("write", path), SyncedFile(path, self.files) as sink:
            for block in part.blocks:
                data = next(got)
                sink.write(memoryview(data)[: part.stop - block.start])
                self.progress(len(data))
        if is_layer(part.name) and sink.hexdigest() != layer_digest(part.name):
            raise RemoteDamaged(f"{part.name}: its blocks hold, and do not make the layer of that name")

    def _sync(self, root: Path) -> None:
        with storage_errors("sync", root):
            for folder in (root / HISTORY, root / LAYERS, root):
                if folder.is_dir():
                    self.files.sync_directory(folder)

    def _put_in_place(self, root: Path, target: Path) -> str:
        """Rename the user to its place; where the one stands that was there."""
        replaced = ""
        with storage_errors("restore", target), ExitStack() as locks:
            if os.path.lexists(target):
                _refuse_used(target, self.force)
                if any(target.iterdir()):
                    locks.enter_context(locked(target, self.files))
                    locks.enter_context(wal_lock(target, self.files))
                    aside = self._aside(target)
                    self.files.rename(target, aside)
                    self.files.sync_directory(aside.parent)
                    replaced = str(aside)
            self.files.rename(root, target)
            self.files.sync_directory(target.parent)
            self.files.sync_directory(target.parent.parent)
        return replaced

    def _aside(self, target: Path) -> Path:
        folder = remote_folder(self.store) / REPLACED
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{target.name}-{time.time_ns() // 1_000_000}"


def _refuse_used(target: Path, force: bool) -> None:
    """A user who is there is not replaced, unless that was asked for."""
    with storage_errors("look at", target):
        if force or not os.path.lexists(target) or not any(target.iterdir()):
            return
    raise StorageError(
        f"{target} is there already, and a pull replaces nobody",
        hint="restore into another --store, or use --force: the directory is then moved aside, not deleted",
    )


def _told(uid: str, chosen: Chosen, parts: list[Part], at: str) -> PulledUser:
    pieces = [
        f"{segment_name(one.segment)} {one.start}-{'' if one.stop is None else one.stop}" for one in chosen.plan.pieces
    ]
    return PulledUser(
        uid=uid,
        status=PLANNED,
        image=chosen.head.key.short,
        at=at,
        source=chosen.plan.start.name,
        pieces=pieces,
        files=len(parts),
        blocks=sum(len(part.blocks) for part in parts),
        bytes=sum(block.nbytes for part in parts for block in part.blocks),
    )


def moment_text(at: int | Lsn | None) -> str:
    """A moment or a place as people write it; empty for none."""
    return "" if at is None else format_time(at) if isinstance(at, int) else str(at)


# What is restored


def whole(image: Image) -> list[Part]:
    """All files of an image, as they were."""
    return [Part(file.name, file, file.nbytes) for file in image.files]


def until(chosen: Chosen) -> list[Part]:
    """What a moment needs, and all before it: the snapshots made by then, their layers, the log up to its pieces."""
    image, plan, line = chosen.head.image, chosen.plan, chosen.planner.line
    homes = {file.home: file for file in image.files}
    wanted: dict[str, StoredFile] = {}
    start = plan.start
    if start.path is not None or start.generation:
        home = home_of(SNAPSHOT, start.generation)
        if home not in homes:
            raise RemoteDamaged(f"{chosen.head.key}: expected blocks under {home}, which its snapshot is, found none")
        wanted[SNAPSHOT] = homes[home]
    if start.path is None and start.generation:
        for file in image.files:
            if file.name.startswith(f"{HISTORY}/") and _generation(file.name) < start.generation:
                wanted[file.name] = file
        kept = [one for one in line.manifests if one.generation <= start.generation]
        names = {f"{LAYERS}/{layer_path(Path(), layer).name}" for one in kept for layer in one.layers}
        wanted |= {name: homes[name] for name in sorted(names) if name in homes}
    parts = [Part(name, file, file.nbytes) for name, file in wanted.items()]
    segments = image.segments
    ends = _ends_before(chosen) | _ends_of(plan.pieces, segments)
    return parts + [Part(segment_name(day), segments[day], stop) for day, stop in sorted(ends.items()) if stop]


def _generation(name: str) -> int:
    return int(Path(name).stem)


def _ends_before(chosen: Chosen) -> dict[str, int]:
    """How far each segment was folded when the snapshot was made that a replay starts from."""
    line, segments = chosen.planner.line, chosen.head.image.segments
    steps = [step.piece for step in line.steps[: chosen.plan.start.place] if not step.gone]
    return {piece.segment: piece.stop or 0 for piece in steps if piece.segment in segments}


def _ends_of(pieces: tuple[Piece, ...], segments: Mapping[str, StoredFile]) -> dict[str, int]:
    return {piece.segment: segments[piece.segment].nbytes if piece.stop is None else piece.stop for piece in pieces}


def _ends(parts: list[Part]) -> dict[str, int]:
    return {part.name: part.stop for part in parts if part.file.day is not None}


def cut(root: Path, uid: str, plan: Plan, ends: Mapping[str, int], files: Files) -> None:
    """End a restored log behind the last event that counts, and see that it still reads the same.

    Raises ``NotRestorable`` when the moment stands inside a batch, which is whole or not at all.
    """
    found = _last_event(root, uid, plan, plan.pieces)
    place = -1 if found is None else _piece_of(plan.pieces, found[0])
    stops = dict(ends)
    for at, piece in enumerate(plan.pieces):
        if at == place and found is not None:
            stops[segment_name(piece.segment)] = found[0].offset
        elif at > place:
            name = segment_name(piece.segment)
            stops[name] = min(stops[name], piece.start)
    _truncate(root, {name: stop for name, stop in stops.items() if stop != ends[name]}, files)
    left = [_ended(piece, stops[segment_name(piece.segment)]) for piece in plan.pieces[: place + 1]]
    again = _last_event(root, uid, plan, tuple(left)) if left else None
    if again != found:
        raise NotRestorable(
            f"the state of {uid} at that place cannot be restored: it stands inside a batch of events",
            hint="a batch is in a log whole or not at all: name the place of its last event, or a moment before it",
        )


def _ended(piece: Piece, stop: int) -> Piece:
    return piece._replace(stop=stop if piece.stop is None else min(piece.stop, stop))


def _last_event(root: Path, uid: str, plan: Plan, pieces: tuple[Piece, ...]) -> tuple[Lsn, int] | None:
    """The place behind the last event that counts, and how many count."""
    columns = ("segment", "offset", "nbytes")
    events = load_user(root, uid, pieces, plan.start.cursor, columns=columns, until=plan.until, progress=False)
    last, count = None, 0
    for batch in events.to_batches():
        rows = batch.num_rows
        if plan.last is not None and batch["segment"][0].as_py() == plan.last.segment:
            rows = pc.sum(pc.less_equal(batch["offset"], plan.last.offset)).as_py() or 0
        if rows:
            segment, offset, nbytes = (batch[name][rows - 1].as_py() for name in columns)
            last, count = Lsn(segment, offset + nbytes), count + rows
    return None if last is None else (last, count)


def _piece_of(pieces: tuple[Piece, ...], end: Lsn) -> int:
    """The piece that holds the bytes before a place."""
    return max(
        at
        for at, piece in enumerate(pieces)
        if piece.segment == end.segment
        and piece.start < end.offset
        and (piece.stop is None or end.offset <= piece.stop)
    )


def _truncate(root: Path, stops: Mapping[str, int], files: Files) -> None:
    for name, stop in stops.items():
        path = root / name
        with storage_errors("write", path):
            if stop:
                os.truncate(path, stop)
                files.sync_file(path)
            else:
                files.unlink(path)
