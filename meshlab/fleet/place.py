"""Where the users are: a directory that every worker sees, or a bucket each of them pulls from.

>>> place_of("file:///srv/backups").name, place_of("/srv/mesh").name
('file:///srv/backups', '/srv/mesh')
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import MeshlabError, NotFound, StorageError, storage_errors
from meshlab.fleet.task import Unit, Weighed
from meshlab.remote.image import BLOCK, IMAGES, Image, StoredFile, parse_image_key
from meshlab.remote.line import NONE, get_manifest, images_in, list_images
from meshlab.remote.patience import PatientBucket
from meshlab.remote.pull import Part, Puller, whole
from meshlab.remote.remote import open_bucket
from meshlab.remote.scratch import scratch_folder
from meshlab.remote.transfer import Lanes, in_turn
from meshlab.remote.windows import choose_head
from meshlab.snapshot.manifest import HISTORY, LAYERS, Manifest
from meshlab.tables.load import Piece
from meshlab.timeline import deleted_segments, log_of
from meshlab.wal.chain import ORIGIN
from meshlab.wal.files import Files
from meshlab.wal.paths import SNAPSHOT, existing_user, segment_day, segment_days, segment_size, user_ids
from meshlab.wal.verify import Gone, last_gone

USER = "user"
"""Where a copy stands in scratch."""

LOG, VERIFIED, ALL = "log", "verified", "all"
"""What a job reads of a user: the log in log order, segment by segment, or the layers as well."""


class Local(NamedTuple):
    """A store in a directory, under the same path for all workers."""

    path: str

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path

    def users(self) -> list[str]:
        """The uids, sorted.  Raises ``NotFound``."""
        return user_ids(Path(self.path))

    def weigh(self, uids: Sequence[str] | None, reads: str, split: int) -> Iterator[Weighed]:
        """The users with their sizes; large ones with the pieces of their logs, where the job may cut them."""
        for uid in self.users() if uids is None else uids:
            user = _weigh_folder(Path(self.path), uid, reads)
            if reads != ALL and user.nbytes > split:
                user = _with_pieces(user, Path(self.path) / uid, reads)
            yield user

    @contextmanager
    def opened(self, unit: Unit, reads: str) -> Iterator[Path]:
        """The directory of a user.  Raises ``NotFound``."""
        yield existing_user(Path(self.path), unit.uid)

    @property
    def shared(self) -> bool:
        """Whether users may be changed where they are."""
        return True


class InBucket(NamedTuple):
    """A store that ``sync push`` put into a bucket; users are restored to ``scratch`` for as long as they are read."""

    url: str
    scratch: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.url

    @property
    def shared(self) -> bool:
        """Whether users may be changed where they are."""
        return False

    def users(self) -> list[str]:
        """The uids, sorted; by the names of their images."""
        return sorted(list_images(bucket_of(self.url)))

    def weigh(self, uids: Sequence[str] | None, reads: str, split: int) -> Iterator[Weighed]:
        """As for a directory, from one listing; sizes are those of images that may be of large users."""
        bucket = bucket_of(self.url)
        keys: list[str] = []
        largest: dict[str, int] = {}
        for found in bucket.list(f"{IMAGES}/"):
            keys.append(found.key)
            if key := parse_image_key(found.key):
                largest[key.uid] = max(found.nbytes, largest.get(key.uid, 0))
        listed = images_in(keys)
        chosen = sorted(listed) if uids is None else uids

        def weighed(uid: str) -> Weighed:
            images = listed.get(uid, NONE)
            mark = _digest(images)
            user = Weighed(uid, _SMALL, mark, images)
            may_be_large = largest.get(uid, 0) > _BLOCK_ENTRY * split // BLOCK
            return _weigh_image(bucket, user, reads, split) if may_be_large else user

        yield from in_turn(weighed, chosen)

    @contextmanager
    def opened(self, unit: Unit, reads: str) -> Iterator[Path]:
        """A copy of what is read of the user, deleted on the way out.  Raises ``NotFound``, ``RemoteError``."""
        bucket = bucket_of(self.url)
        if unit.images is None or not unit.images.keys:
            raise NotFound(f"user {unit.uid!r} is not in {self.url}", hint="'meshlab sync status' lists the users")
        head = unit.head or choose_head(bucket, unit.uid, None, unit.images)[0]
        with scratch_folder(self.workshop()) as folder, Lanes() as lanes:
            root = folder / USER / unit.uid
            root.parent.mkdir()
            puller = Puller(bucket, folder, lanes, files=PASSING)
            puller.restore(root, _needed(head.image, unit, reads))
            yield root

    def workshop(self) -> Path:
        """Where copies of users are made, and those that killed workers left are deleted.  Raises ``StorageError``."""
        return Path(self.scratch) if self.scratch else _own_folder()


def _own_folder() -> Path:
    """A folder among those for temporary files, of whoever runs this process and of nobody else."""
    path = Path(tempfile.gettempdir()) / f"meshlab-{os.getuid()}"
    with storage_errors("make", path):
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise StorageError(f"others may write to {path}", hint="name a folder for scratch")
    return path


Place = Local | InBucket


def place_of(where: str | os.PathLike[str], scratch: str | os.PathLike[str] | None = None) -> Place:
    """A bucket for ``s3://`` and ``file://``, else a directory.  Nothing is asked of it yet."""
    text = os.fspath(where)
    if text.startswith(("s3://", "file://")):
        open_bucket(text)  # raises for an address that is none
        return InBucket(text, os.fspath(scratch or ""))
    return Local(os.path.abspath(text))


# Directories


def _weigh_folder(store: Path, uid: str, reads: str) -> Weighed:
    """A user by names, sizes and times of files; one who cannot be looked at is for the worker to tell of."""
    root = store / uid
    try:
        files = _files(root, lambda name: bool(segment_day(name)) or name == SNAPSHOT)
        behind = [_files(root / name) for name in (HISTORY, LAYERS) if reads == ALL and (root / name).exists()]
    except OSError:
        return Weighed(uid, mark=secrets.token_hex(8))
    return Weighed(uid, sum(size for name, size, _ in files if name != SNAPSHOT), _digest((files, behind)))


def _files(folder: Path, wanted: Callable[[str], bool] = bool) -> list[tuple[str, int, int]]:
    """Names, sizes and times of files in a folder, sorted."""
    with os.scandir(folder) as entries:
        some = ((entry.name, entry.stat()) for entry in entries if wanted(entry.name))
        return sorted((name, status.st_size, status.st_mtime_ns) for name, status in some)


def _with_pieces(user: Weighed, root: Path, reads: str) -> Weighed:
    try:
        if reads == LOG:
            log = log_of(root, user.uid)
            pieces = [Piece(day) for day in segment_days(root)] if log.pieces is None else list(log.pieces)
            start = log.start
        else:
            pieces, start = pieces_of(segment_days(root), deleted_segments(root, user.uid)), ORIGIN
        return user._replace(pieces=tuple((piece, _nbytes(root, piece)) for piece in pieces), start=start)
    except (MeshlabError, OSError):
        return user


def pieces_of(days: Iterable[str], gone: Gone) -> list[Piece]:
    """Whole segments in order; ``gone`` are those that were deleted."""
    return [Piece(day, after=last_gone(gone, day)) for day in days]


def _nbytes(root: Path, piece: Piece) -> int:
    return (segment_size(root, piece.segment) if piece.stop is None else piece.stop) - piece.start


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


# Buckets

_BLOCK_ENTRY = 45
"""Bytes of an image for each block, at least: an image with too few of them is of a user who is not large."""

_SMALL = 64 << 10
"""What a user counts for whose image is smaller."""


class PassingFiles(Files):
    """Files that nobody needs after a loss of power: nothing is synced."""

    def sync(self, fd: int) -> None:
        """Nothing."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


PASSING = PassingFiles()


def bucket_of(url: str) -> PatientBucket:
    """The bucket at an address, one for all tasks of a process."""
    return _bucket_of(url, os.getpid())


@lru_cache(maxsize=8)
def _bucket_of(url: str, process: int) -> PatientBucket:
    return PatientBucket(open_bucket(url))


def _weigh_image(bucket: PatientBucket, user: Weighed, reads: str, split: int) -> Weighed:
    """A user by the image; who has none that can be read is for the worker to tell of."""
    try:
        head, _ = choose_head(bucket, user.uid, None, user.images)
        image = head.image
        nbytes = sum(file.nbytes for file in image.segments.values())
        user = user._replace(nbytes=nbytes, head=head)
        if reads == ALL or nbytes <= split:
            return user
        manifest = get_manifest(bucket, image)
    except MeshlabError:
        return user
    if reads == LOG and manifest is not None:
        return user  # its log order is known where the log is
    pieces = pieces_of(image.segments, _gone(manifest, image.segments))
    sizes = [image.segments[piece.segment].nbytes for piece in pieces]
    return user._replace(pieces=tuple(zip(pieces, sizes, strict=True)), start=ORIGIN)


def _gone(manifest: Manifest | None, days: Iterable[str]) -> Gone:
    left = set(days)
    retired = manifest.retired if manifest is not None else []
    return {one.segment: (one.seq, one.sum) for one in retired if one.segment not in left and one.seq}


def _needed(image: Image, unit: Unit, reads: str) -> list[Part]:
    """The files of an image that a job reads; of segments before the pieces only the end."""
    if reads == ALL:
        return whole(image)
    if unit.pieces is None:
        return [part for part in whole(image) if not part.name.startswith(f"{LAYERS}/")]
    read = {piece.segment for piece in unit.pieces}
    parts = [part for part in whole(image) if part.file.day in read]
    if unit.start is None:
        before = (image.segments[piece.segment] for piece in reversed(unit.before))
        parts += [_end_of(file) for file in islice((file for file in before if file.blocks), 1)]
    return parts


def _end_of(file: StoredFile) -> Part:
    """The last blocks of a segment, which make a short file that ends as it does."""
    first = next(index for index, block in enumerate(file.blocks) if file.nbytes - block.start <= _LOOK + block.nbytes)
    return Part(file.name, file._replace(blocks=file.blocks[first:]), file.nbytes)


_LOOK = 64 << 10
"""Bytes in which the last frame of a segment is looked for, at least."""
