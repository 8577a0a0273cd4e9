"""Lines of images: which follows which, and how a log here stands to what is in the bucket.

Nothing keeps two machines from pushing one user.  But every image names the one it
follows, and every log carries its own chain: the last 4 KiB of a segment hold the sum
of its last frame, which by ``prev`` stands for all frames before it.  So it can be told
whether one goes on where the other ends.

>>> first = ImageKey("ann", 1, "0" * 16, "aaaaaaaa", "11" * 32)
>>> here, there = (ImageKey("ann", 2, first.short, machine, digit * 64) for machine, digit in ("a2", "b3"))
>>> Images([first, here, there]).heads() == [here, there], list(Images([first, here]).line(here)) == [here, first]
(True, True)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from meshlab.errors import NotFound, RemoteDamaged
from meshlab.remote.image import (
    Block,
    Image,
    ImageKey,
    StoredFile,
    block_key,
    images_prefix,
    parse_image_key,
    parse_link_key,
)
from meshlab.remote.image import unpack as unpack_image
from meshlab.remote.local import Local, ending, is_manifest
from meshlab.remote.patience import PatientBucket
from meshlab.snapshot.manifest import PROBE, Manifest, check_range
from meshlab.snapshot.manifest import unpack as unpack_manifest
from meshlab.wal.paths import SNAPSHOT

FOLLOWED, AHEAD, FORKED = "followed", "ahead", "forked"
"""What the log here goes on from; what has all that is here, and more; neither."""


class Head(NamedTuple):
    """An image no other follows."""

    key: ImageKey
    image: Image


class Images(NamedTuple):
    """The images of a user that are listed, by number.

    ``links`` say which image one follows now, where retention has deleted those between.
    """

    keys: list[ImageKey]
    links: Sequence[tuple[str, str]] = ()

    def steps(self) -> Iterator[tuple[ImageKey, ImageKey]]:
        """Which image follows which of those that are there.

        A number is above those of the images before it.  So what says otherwise is no step,
        every line has an end, and whoever is there has a head.
        """
        known = {one.short: one for one in self.keys}
        named = [(key.short, key.parent) for key in self.keys]
        for follower, followed in (*named, *self.links):
            newer, older = known.get(follower), known.get(followed)
            if newer is not None and older is not None and older.number < newer.number:
                yield newer, older

    def heads(self) -> list[ImageKey]:
        """The images that none of the others follows."""
        followed = {older for _, older in self.steps()}
        return [key for key in self.keys if key not in followed]

    def line(self, head: ImageKey) -> Iterator[ImageKey]:
        """A head and the images it goes back to, newest first, as far as they are there."""
        before: dict[ImageKey, ImageKey] = {}
        for newer, older in self.steps():
            before.setdefault(newer, older)
        key: ImageKey | None = head
        while key is not None:
            yield key
            key = before.get(key)


NONE = Images([])


class Listed(dict[str, Images]):
    """The images of users, by uid; ``foreign`` counts the keys beside them that no push puts."""

    foreign = 0


def list_images(bucket: PatientBucket, uid: str = "") -> Listed:
    """All images, by user.  What stands there under other names is none."""
    return images_in(found.key for found in bucket.list(images_prefix(uid)))


def images_in(keys: Iterable[str]) -> Listed:
    """The images among some keys, by user."""
    found: dict[str, list[ImageKey]] = {}
    links: dict[str, list[tuple[str, str]]] = {}
    foreign = 0
    for text in keys:
        if key := parse_image_key(text):
            found.setdefault(key.uid, []).append(key)
        elif link := parse_link_key(text):
            links.setdefault(link[0], []).append(link[1:])
        else:
            foreign += 1
    listed = Listed((uid, Images(sorted(keys), links.get(uid, []))) for uid, keys in found.items())
    listed.foreign = foreign
    return listed


def get_image(bucket: PatientBucket, key: ImageKey) -> Image:
    """An image that is listed.  Raises ``RemoteDamaged`` when it is not what its key says, or cannot be got."""
    return unpack_image(key, get_listed(bucket, str(key)))


def get_listed(bucket: PatientBucket, key: str) -> bytes:
    """An object that must be there."""
    try:
        return bucket.get(key)
    except NotFound as error:
        raise RemoteDamaged(f"{error.message}, although it is listed or named") from None


def true_heads(bucket: PatientBucket, images: Images, known: Head | None = None) -> list[Head]:
    """The heads of a user, read, but for those that another head has followed besides its parent.

    ``known`` need not be read again.
    """
    found = [
        known if known is not None and known.key == key else Head(key, get_image(bucket, key)) for key in images.heads()
    ]
    followed = {digest for head in found for digest in head.image.parents}
    return [head for head in found if head.key.digest not in followed]


def get_block(bucket: PatientBucket, uid: str, file: StoredFile, block: Block) -> bytes:
    """The bytes of a block.  Raises ``RemoteDamaged`` when they are missing or not those."""
    key = block_key(uid, file.home, block)
    data = get_listed(bucket, key)
    if len(data) != block.nbytes or hashlib.sha256(data).digest() != block.digest:
        raise RemoteDamaged(
            f"{bucket.url}: {key}: expected {block.nbytes} bytes of that SHA-256, found {len(data)} others"
        )
    return data


def get_file(bucket: PatientBucket, uid: str, file: StoredFile) -> bytes:
    """The bytes of a small file."""
    return b"".join(get_block(bucket, uid, file, block) for block in file.blocks)


def get_manifest(bucket: PatientBucket, image: Image) -> Manifest | None:
    """The manifest in force in an image; None when there is none, or a phase-1 map."""
    file = image.by_name.get(SNAPSHOT)
    if file is None or not image.snapshot:
        return None
    data = get_file(bucket, image.uid, file)
    return unpack_manifest(data) if is_manifest(data) else None


# How a log here stands to an image


def standing(bucket: PatientBucket, local: Local, image: Image) -> str:
    """``FOLLOWED``, ``AHEAD`` or ``FORKED``."""
    if follows(local, image):
        return FOLLOWED
    return AHEAD if is_within(bucket, local, image) else FORKED


def follows(local: Local, image: Image) -> bool:
    """Whether the log here goes on where an image ends, and the checkpoints here are those of the image."""
    return all(_holds(local, file) for file in image.segments.values()) and _knows(local, image)


def _holds(local: Local, file: StoredFile) -> bool:
    """Whether a segment here begins with that of an image, or was folded and is gone."""
    day = file.day
    assert day is not None
    if day in local.sizes:
        return not check_range(local.root, file.as_range())
    manifest = local.manifest
    if manifest is None:
        return not file.nbytes
    retired = [one for one in manifest.retired if one.segment == day]
    if any(one.nbytes > file.nbytes or (one.nbytes, one.digest) == (file.nbytes, file.ending) for one in retired):
        return True
    return manifest.folded_ends.get(day, 0) >= file.nbytes


def _knows(local: Local, image: Image) -> bool:
    """Whether the checkpoint in force in an image is one of those here, or older than all that are kept."""
    if image.generation < 1:
        return True
    known = local.digests.get(image.generation)
    return image.generation < local.generation if known is None else known == image.snapshot


def is_within(bucket: PatientBucket, local: Local, image: Image) -> bool:
    """Whether an image has everything that is here.  May get some blocks."""
    if local.generation > image.generation or local.digests.get(image.generation, image.snapshot) != image.snapshot:
        return False
    segments, retired = image.segments, _retired(bucket, image) if local.sizes.keys() - image.segments.keys() else {}
    return all(
        _tail(bucket, image, segments[day], size) == ending(local.root, day, size)
        if day in segments
        else retired.get(day, -1) >= size
        for day, size in local.sizes.items()
        if size
    )


def _retired(bucket: PatientBucket, image: Image) -> dict[str, int]:
    manifest = get_manifest(bucket, image)
    return {} if manifest is None else {one.segment: one.nbytes for one in manifest.retired}


def _tail(bucket: PatientBucket, image: Image, file: StoredFile, stop: int) -> bytes:
    """MD5 of the last bytes before a place in a segment of an image; of nothing when it is shorter."""
    if file.nbytes < stop:
        return b""
    start = max(0, stop - PROBE)
    blocks = [block for block in file.blocks if block.start < stop and block.stop > start]
    data = b"".join(get_block(bucket, image.uid, file, block) for block in blocks)
    return hashlib.md5(data[start - blocks[0].start : stop - blocks[0].start], usedforsecurity=False).digest()
