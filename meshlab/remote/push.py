"""Push: what is new here into the bucket, and an image that names it last.

Steps, each of which may be the last before an outage or a crash (docs/remote.md tells
what is left): compare the files with those of the last push; look at the user; compare
the heads in the bucket with the log; sync; check what is new; put the blocks; put the
image, which is the commit point; note it.  Nothing is deleted, nothing written over.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meshlab.errors import MeshlabError, RemoteDamaged, SnapshotError, StorageError, storage_errors
from meshlab.remote import notes
from meshlab.remote.blocks import cuts, requests_for, staying
from meshlab.remote.check import FEW, Gained, read_gain
from meshlab.remote.image import (
    BLOCK,
    LARGEST_NUMBER,
    Block,
    Image,
    StoredFile,
    block_key,
    is_layer,
    key_of,
    layer_digest,
    pack,
)
from meshlab.remote.line import AHEAD, FOLLOWED, NONE, Head, Images, list_images, standing, true_heads
from meshlab.remote.local import (
    Local,
    Print,
    ending,
    look,
    make_durable,
    prints,
    snapshot_digest,
)
from meshlab.remote.notes import Note, Notes
from meshlab.remote.patience import PatientBucket
from meshlab.remote.transfer import Lanes
from meshlab.replay import steadily
from meshlab.snapshot.checkpoint import tool
from meshlab.wal.files import REAL_FILES, Files, open_regular
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import wall_clock

PUSHED, TO_PUSH, NOTHING, BEHIND, FAILED = "pushed", "to push", "nothing new", "behind", "failed"


class PushedUser(msgspec.Struct, frozen=True, kw_only=True):
    """What a push did for one user, or would do.

    ``status`` is ``pushed`` (``to push`` in a dry run), ``nothing new``, ``behind`` (the
    bucket has all that is here, and more) or ``failed``.  ``forks`` are heads of other
    lines, whose images are not those of this log.  ``blocks`` and ``bytes`` went into the
    bucket; ``image`` names what stands for the user there now, and ``looked_at`` (µs)
    until when it has everything.
    """

    uid: str
    status: str
    image: str = ""
    number: int = 0
    blocks: int = 0
    bytes: int = 0
    requests: int = 0
    looked_at: int = 0
    seconds: float = 0.0
    forks: list[str] = []
    error: str = ""
    hint: str = ""
    kind: str = ""


class Pusher:
    """Pushes users of one store into one bucket.

    ``listed`` are the images of all users, listed at once for those this machine does not know yet.
    """

    def __init__(
        self,
        bucket: PatientBucket,
        notes: Notes,
        lanes: Lanes,
        machine: str,
        *,
        accept: Collection[str] = (),
        dry_run: bool = False,
        files: Files = REAL_FILES,
        clock: Callable[[], int] = wall_clock,
        progress: Callable[[int], object] = lambda count: None,
        listed: Mapping[str, Images] | None = None,
    ) -> None:
        self.bucket, self.notes, self.lanes, self.machine = bucket, notes, lanes, machine
        self.listed, self.tool = listed, tool()
        self.accept, self.dry_run = frozenset(accept), dry_run
        self.files, self.clock, self.progress = files, clock, progress

    def push(self, root: Path, uid: str) -> PushedUser:
        """Push one user; what is wrong with it is in the result, not raised."""
        started = time.monotonic()
        try:
            done = steadily(root, lambda: _Push(self, root, uid).run())
        except (MeshlabError, OSError) as error:
            done = _failure(uid, error)
        return msgspec.structs.replace(done, seconds=time.monotonic() - started)


def _failure(uid: str, error: Exception) -> PushedUser:
    known = error if isinstance(error, MeshlabError) else StorageError(f"{uid}: {error}")
    return PushedUser(uid=uid, status=FAILED, error=known.message, hint=known.hint, kind=type(error).__name__)


class _Base(NamedTuple):
    """What a push goes on from: the images it follows, the newest first, and the heads of other lines."""

    follows: list[Head]
    forks: list[Head]
    ahead: bool

    @property
    def image(self) -> Image | None:
        """The image whose blocks need not be put again."""
        return self.follows[0].image if self.follows else None

    @property
    def number(self) -> int:
        """The number of the image to come: behind all that are known.  Raises ``RemoteDamaged`` without one."""
        newest = max((head.key for head in (*self.follows, *self.forks)), key=lambda key: key.number, default=None)
        if newest is not None and newest.number >= LARGEST_NUMBER:
            raise RemoteDamaged(
                f"{newest}: expected numbers below {LARGEST_NUMBER:,}, found {newest.number:,}: no number is left",
                hint="no push of ours counts as far: delete that image by hand, then push again",
            )
        return newest.number + 1 if newest is not None else 1

    @property
    def parents(self) -> list[str]:
        """The digests of the heads that are none any more."""
        digests = [head.key.digest for head in self.follows]
        joined = [digest for head in self.follows for digest in head.image.parents[1:]]
        return list(dict.fromkeys(digests + joined))

    @property
    def fork_names(self) -> list[str]:
        """The other heads as people name them."""
        return [head.key.short for head in self.forks]


class _Push:
    """The push of one user under way."""

    def __init__(self, pusher: Pusher, root: Path, uid: str) -> None:
        self.with_, self.root, self.uid = pusher, root, uid
        self.bucket, self.notes = pusher.bucket, pusher.notes
        self.put_sizes: list[int] = []

    def run(self) -> PushedUser:
        note, seen = self.notes.note(self.uid), prints(self.root)
        if note is not None and note.prints == seen:
            return self._nothing(note)
        looked_at = self.with_.clock()
        local = look(self.root, self.uid, self.with_.files)
        base = self._base(local, note)
        if base.ahead:
            return PushedUser(uid=self.uid, status=BEHIND, forks=base.fork_names)
        if self.with_.dry_run:
            return self._estimate(local, base)
        known = {} if base.image is None else {day: file.nbytes for day, file in base.image.segments.items()}
        make_durable(local, known, self.with_.files)
        same = note.prints if note is not None and base.follows and note.key == str(base.follows[0].key) else {}
        unchanged = {name for name, print_ in seen.items() if same.get(name) == print_}
        image = self._put_all(local, base, looked_at, unchanged)
        return self._commit(image, base, seen)

    def _nothing(self, note: Note) -> PushedUser:
        now = self.with_.clock()
        return PushedUser(
            uid=self.uid,
            status=NOTHING,
            image=note.image_key.short,
            number=note.image_key.number,
            looked_at=now,
            forks=note.forks,
        )

    def _base(self, local: Local, note: Note | None) -> _Base:
        """The heads in the bucket, and how the log here stands to each."""
        listed = self.with_.listed if note is None else None
        images = (list_images(self.bucket, self.uid) if listed is None else listed).get(self.uid, NONE)
        known = Head(note.image_key, note.image) if note is not None else None
        found = true_heads(self.bucket, images, known)
        stands = {head.key: standing(self.bucket, local, head.image) for head in found}
        follows = [head for head in found if stands[head.key] == FOLLOWED]
        forks = [head for head in found if stands[head.key] != FOLLOWED]
        follows.sort(key=lambda head: (head.image.nbytes, head.key), reverse=True)
        return _Base(follows, forks, ahead=not follows and AHEAD in stands.values())

    def _estimate(self, local: Local, base: _Base) -> PushedUser:
        """What a push would put, by the sizes alone."""
        before = {} if base.image is None else {file.home: file for file in base.image.files}
        sizes = {segment_name(day): size for day, size in local.sizes.items()}
        sizes |= {name: path.stat().st_size for name, path in local.others.items()}
        new = {name: _new_bytes(before.get(local.home(name)), size) for name, size in sizes.items()}
        nbytes, blocks = sum(new.values()), sum(map(requests_for, new.values()))
        same = base.image is not None and not nbytes and sizes.keys() == base.image.by_name.keys()
        return PushedUser(
            uid=self.uid,
            status=NOTHING if same else TO_PUSH,
            blocks=blocks,
            bytes=nbytes,
            requests=blocks + (not same),
            forks=base.fork_names,
        )

    # Blocks

    def _put_all(self, local: Local, base: _Base, looked_at: int, unchanged: set[str]) -> Image:
        """Put every block that is new, while what they hold is checked; the image that names them all."""
        before = {} if base.image is None else {file.home: file for file in base.image.files}
        check = self._check(local, base)
        work = _Blocks(self, before)
        try:
            files = [work.file(name, local.home(name), path, name in unchanged) for name, path in local.others.items()]
            for day, size in sorted(local.sizes.items()):
                work.begin_segment(self.root, day, size)
            gained = check.result()
            files += [work.end_segment(self.root, day, stop) for day, stop in sorted(gained.ends.items())]
            work.sender.finish()
        except BaseException:
            work.sender.give_up()
            check.exception()
            raise
        return Image(
            uid=self.uid,
            machine=self.with_.machine,
            number=base.number,
            parents=base.parents,
            looked_at=looked_at,
            tool=self.with_.tool,
            files=sorted(files),
            seq=gained.end.seq,
            sum=gained.end.sum,
            effective=gained.end.effective,
            generation=local.generation,
            snapshot=snapshot_digest(local),
            state_hash=local.manifest.state_hash if local.manifest is not None else "",
            records=local.manifest.records if local.manifest is not None else 0,
            retain_days=local.retain_days,
            accepted=gained.accepted,
        )

    def _check(self, local: Local, base: _Base) -> Future[Gained]:
        """Whether what the log has gained is sound; found out beside the puts, and known before the image."""
        known = {} if base.image is None else {day: file.nbytes for day, file in base.image.segments.items()}
        nbytes = sum(size - known.get(day, 0) for day, size in local.sizes.items())
        return self.with_.lanes.beside(lambda: read_gain(local, base.image, self.with_.accept), small=nbytes < FEW)

    def _commit(self, image: Image, base: _Base, seen: dict[str, Print]) -> PushedUser:
        """Put the image, unless the one before says the same."""
        before = base.image
        if before is not None and len(base.follows) == 1 and _says_the_same(before, image):
            key, data, status = base.follows[0].key, pack(before), NOTHING
        else:
            data, status = pack(image), PUSHED
            key = key_of(image, data)
            self.bucket.put(str(key), data)
        self.notes.remember(self.uid, Note(str(key), data, seen, base.fork_names))
        return PushedUser(
            uid=self.uid,
            status=status,
            image=key.short,
            number=key.number,
            blocks=len(self.put_sizes),
            bytes=sum(self.put_sizes),
            requests=len(self.put_sizes) + (status == PUSHED),
            looked_at=image.looked_at,
            forks=base.fork_names,
        )


def _new_bytes(known: StoredFile | None, size: int) -> int:
    kept = staying(known.blocks, size) if known is not None else []
    return max(0, size - (kept[-1].stop if kept else 0))


def _says_the_same(before: Image, after: Image) -> bool:
    """Whether two images stand for one directory."""
    names = ("files", "generation", "snapshot", "retain_days", "accepted", "seq", "sum")
    return all(getattr(before, name) == getattr(after, name) for name in names)


class _Blocks:
    """The files of one user, block by block, into the bucket."""

    def __init__(self, push: _Push, before: dict[str, StoredFile]) -> None:
        self.push, self.before = push, before
        self.sender = push.with_.lanes.sender()
        self._put = push.notes.begun(push.uid)
        self._begun: dict[str, list[Block]] = {}

    def file(self, name: str, home: str, path: Path, unchanged: bool) -> StoredFile:
        """A file that is put whole or is there already."""
        known = self.before.get(home)
        if known is not None and (unchanged or is_layer(name)):
            return known._replace(name=name)
        with storage_errors("read", path), open(path, "rb", opener=open_regular) as file:
            if known is not None and _has_bytes_of(file, known):
                return known._replace(name=name)
            whole = hashlib.sha256()
            blocks = self._send(file, home, 0, os.fstat(file.fileno()).st_size, whole.update)
        if is_layer(name) and whole.hexdigest() != layer_digest(name):
            raise SnapshotError(
                f"{path}: its bytes are not those its name stands for",
                hint="restore the file from a copy of the store; it does not go into the bucket",
            )
        return StoredFile(name, home, blocks)

    def begin_segment(self, root: Path, day: str, size: int) -> None:
        """Put the full blocks of a segment, though it may turn out to end before the last of them."""
        name = segment_name(day)
        known = self.before.get(name)
        kept = staying(known.blocks, size) if known is not None else []
        start = kept[-1].stop if kept else 0
        full = start + (size - start) // BLOCK * BLOCK
        if full > start:
            with storage_errors("read", root / name), open(root / name, "rb", opener=open_regular) as file:
                kept += self._send(file, name, start, full)
        self._begun[name] = kept

    def end_segment(self, root: Path, day: str, stop: int) -> StoredFile:
        """Put what is left of a segment up to its end."""
        name = segment_name(day)
        known = self.before.get(name)
        if known is not None and known.nbytes >= stop:
            return known
        kept = [block for block in self._begun[name] if block.stop <= stop]
        start = kept[-1].stop if kept else 0
        with storage_errors("read", root / name), open(root / name, "rb", opener=open_regular) as file:
            blocks = self._send(file, name, start, stop)
        return StoredFile(name, name, kept + blocks, ending(root, day, stop))

    def _send(
        self, file: Any, home: str, start: int, stop: int, seen: Callable[[bytes], object] = lambda data: None
    ) -> list[Block]:
        """Put the bytes between two places; the blocks they make.  ``seen`` is called with the bytes of each."""
        blocks = []
        for low, high in cuts(start, stop):
            block, data = self.sender.send(partial(_read, file, low, high), self._putter(home))
            seen(data)
            blocks.append(block)
        return blocks

    def _putter(self, home: str) -> Callable[[tuple[Block, bytes]], None]:
        push = self.push

        def put(read: tuple[Block, bytes]) -> None:
            key = block_key(push.uid, home, read[0])
            if key not in self._put:
                push.bucket.put(key, read[1])
                if len(read[1]) >= notes.WORTH_NOTING:
                    push.notes.begin(push.uid, key)
                push.put_sizes.append(len(read[1]))
            push.with_.progress(len(read[1]))

        return put


def _read(file: Any, low: int, high: int) -> tuple[Block, bytes]:
    data = os.pread(file.fileno(), high - low, low)
    if len(data) != high - low:
        raise StorageError(f"{file.name}: expected {high} bytes, found {low + len(data)}: it shrank while it was read")
    return Block(low, high, hashlib.sha256(data).digest()), data


def _has_bytes_of(file: Any, known: StoredFile) -> bool:
    """Whether a file has the very bytes that are in the bucket."""
    if os.fstat(file.fileno()).st_size != known.nbytes:
        return False
    return all(_read(file, block.start, block.stop)[0] == block for block in known.blocks)
