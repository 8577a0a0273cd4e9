"""What can be restored from the bucket alone, by the planner that answers for a directory.

The planner looks at names, sizes, snapshots and ends of folded ranges.  For an image
there is a skeleton: a directory with the snapshots as they are, and segments of the
right size with nothing in them.  What the planner would look up in the bytes is answered
from the image instead: a push compared them before it put them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import NotFound, NotRestorable, RemoteDamaged, RemoteError
from meshlab.plan import Lsn, Plan, Planner, Window
from meshlab.remote.image import LAST_MOMENT, Image, ImageKey, StoredFile
from meshlab.remote.line import Head, Images, get_file, get_image, list_images, true_heads
from meshlab.remote.patience import PatientBucket
from meshlab.snapshot.manifest import CONTENTS, HISTORY, RECORDS, Range, history_path, layer_path
from meshlab.timeline import Timeline
from meshlab.times import format_time, to_datetime
from meshlab.wal.paths import SNAPSHOT, segment_name

_LARGEST_READ = 1 << 20
"""Bytes of the phase-1 map behind a manifest that are got for a skeleton; of a larger one its size will do."""


class RemoteWindow(NamedTuple):
    """Moments that can be restored from an image: those of a ``Window``; its ``end`` is that of the image at most."""

    image: str
    start: datetime | None
    end: datetime
    source: str
    generations: tuple[int, ...] = ()
    hole_before: str | None = None
    hole_after: str | None = None


class BucketLine(Timeline):
    """The timeline of an image, on its skeleton."""

    def __init__(self, root: Path, image: Image) -> None:
        self._segments, self._names = image.segments, image.by_name
        super().__init__(root, image.uid)
        for start in self.starts:
            if start.manifest is not None and start.path is None:
                needed = (*start.manifest.of_kind(RECORDS), *start.manifest.of_kind(CONTENTS))
                names = [layer_path(root, layer).relative_to(root).as_posix() for layer in needed]
                missing = [name for name in names if name not in self._names]
                start.problem = f"{missing[0]} is not in the bucket" if missing else ""

    def look_at(self, folded: Range) -> str:
        """Why the bytes of a folded range are not in the bucket; empty when they are."""
        file = self._segments.get(folded.segment)
        if file is None:
            return f"{segment_name(folded.segment)} is not in the bucket"
        if file.nbytes < folded.stop:
            return f"{segment_name(folded.segment)} has {file.nbytes} bytes in the bucket; {folded.stop} were folded"
        return ""


class BucketPlanner(Planner):
    """Answers for an image."""

    def _ends_with(self, index: int, lsn: Lsn) -> bool:
        """Nobody knows without the bytes; a start further back is as good."""
        return False


@contextmanager
def planner_of(bucket: PatientBucket, image: Image) -> Iterator[BucketPlanner]:
    """The planner for an image; its skeleton goes on the way out."""
    with tempfile.TemporaryDirectory(prefix="meshlab-skeleton-") as folder:
        root = Path(folder) / image.uid
        _make_skeleton(bucket, image, root)
        yield BucketPlanner(root, image.uid, line=BucketLine(root, image))


def _make_skeleton(bucket: PatientBucket, image: Image, root: Path) -> None:
    (root / HISTORY).mkdir(parents=True)
    for file in image.files:
        if file.day is not None:
            _make_hollow(root / file.name, file.nbytes)
        elif file.name == SNAPSHOT or file.name.startswith(f"{HISTORY}/"):
            if _will_do_hollow(root, file):
                _make_hollow(root / file.name, file.nbytes)
            else:
                (root / file.name).write_bytes(get_file(bucket, image.uid, file))


def _will_do_hollow(root: Path, file: StoredFile) -> bool:
    return root / file.name == history_path(root, 0) and file.nbytes > _LARGEST_READ


def _make_hollow(path: Path, nbytes: int) -> None:
    """A file of NULs that takes no room."""
    path.touch()
    os.truncate(path, nbytes)


# Images


def last_moment(image: Image) -> int:
    """The last moment an image knows about (µs): when the log was looked at, or its newest event."""
    return min(max(image.looked_at, image.effective), LAST_MOMENT)


def windows_of(bucket: PatientBucket, key: ImageKey, image: Image) -> list[RemoteWindow]:
    """The restorable moments of one image, oldest first."""
    with planner_of(bucket, image) as planner:
        return [_bounded(window, key, image) for window in planner.windows()]


def _bounded(window: Window, key: ImageKey, image: Image) -> RemoteWindow:
    end = to_datetime(last_moment(image)) if window.end is None else window.end
    return RemoteWindow(
        key.short, window.start, end, window.source, window.generations, window.hole_before, window.hole_after
    )


def covers(newer: Image, older: Image) -> bool:
    """Whether an image has all files of another, at least as long: then it restores every moment the other does."""
    held = {file.home: file.nbytes for file in newer.files}
    return all(held.get(file.home, -1) >= file.nbytes for file in older.files)


def telling(images: Iterable[Head]) -> Iterator[Head]:
    """Of a line, newest first, the images that have something those behind them have not."""
    last: Image | None = None
    for head in images:
        if last is None or not covers(last, head.image):
            last = head.image
            yield head


def windows(bucket: PatientBucket, uid: str) -> list[RemoteWindow]:
    """What can be restored of a user from the bucket alone, image by image, newest last.

    Raises ``NotFound`` when the user is not in the bucket.
    """
    images = images_of(bucket, uid)
    found: list[RemoteWindow] = []
    for head in images.heads():
        line = (Head(key, get_image(bucket, key)) for key in images.line(head))
        for one in telling(line):
            found += windows_of(bucket, one.key, one.image)
    return sorted(found, key=lambda window: (window.end, window.image))


def images_of(bucket: PatientBucket, uid: str) -> Images:
    """The images of a user that must be in the bucket."""
    images = list_images(bucket, uid).get(uid)
    if images is None:
        raise not_there(bucket, uid)
    return images


def not_there(bucket: PatientBucket, uid: str) -> NotFound:
    """The error for a user without an image."""
    return NotFound(f"{bucket.url}: user {uid!r} is not in the bucket", hint="'meshlab sync status' lists who is")


def choose_head(
    bucket: PatientBucket, uid: str, image: str | None = None, listed: Images | None = None
) -> tuple[Head, Images]:
    """The image to restore from: the one whose SHA-256 begins with ``image``, else the only head.

    ``listed`` are the images of the user, if they were listed before.

    Raises ``NotFound`` when the user is not in the bucket, ``RemoteError`` when there is more than one head.
    """
    images = listed or images_of(bucket, uid)
    if image is not None:
        found = [key for key in images.keys if key.digest.startswith(image.lower())] if image else []
        if len(found) != 1:
            raise RemoteError(
                f"{uid}: {len(found)} images begin with {image!r}", hint="'meshlab sync status UID' shows them"
            )
        return Head(found[0], get_image(bucket, found[0])), images
    known = true_heads(bucket, images)
    if not known:
        raise RemoteDamaged(
            f"{bucket.url}: {uid}: expected an image that no other follows, found none among {len(images.keys)}",
            hint="choose one with --image; 'meshlab sync status UID' tells who is there",
        )
    if len(known) > 1:
        told = "; ".join(f"{one.key.short} by machine {one.key.machine}, seq {one.image.seq}" for one in known)
        raise RemoteError(
            f"{uid}: {len(known)} lines of images, for more than one machine has pushed this user: {told}",
            hint="choose one with --image",
        )
    return known[0], images


class Chosen(NamedTuple):
    """The image a moment is restored from, and how."""

    head: Head
    plan: Plan
    planner: BucketPlanner


@contextmanager
def plan_at(bucket: PatientBucket, head: Head, images: Images, at: int | Lsn | None) -> Iterator[Chosen]:
    """How to restore a moment: from the head, else from an image before it.  Raises ``NotRestorable``."""
    if isinstance(at, int) and at > last_moment(head.image):
        raise NotRestorable(
            f"{head.key.uid}: {format_time(at)} is after the last push, {format_time(last_moment(head.image))}",
            hint="what happened since is not in the bucket; without --at the newest state is restored",
        )
    first: NotRestorable | None = None
    line = (head if key == head.key else Head(key, get_image(bucket, key)) for key in images.line(head.key))
    for one in telling(line):
        with planner_of(bucket, one.image) as planner:
            try:
                plan = planner.plan(at)
            except NotRestorable as error:
                first = first or error
                continue
            yield Chosen(one, plan, planner)
            return
    assert first is not None
    raise first
