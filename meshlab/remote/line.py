"""Lines of images: which follows which, and how a log here stands to what is in the bucket.

Nothing keeps two machines from pushing one user.  But every image names the one it
follows, and every log carries its own chain: the last 4 KiB of a segment hold the sum
of its last frame, which by ``prev`` stands for all frames before it.  So it can be told
whether one goes on where the other ends.

>>> first = ImageKey("ann", 1, "0" * 16, "aaaaaaaa", "11" * 32)
>>> here, there = (ImageKey("ann", 2, first.short, machine, digit * 64) for machine, digit in ("a2", "b3"))
>>> heads([first, here, there]) == [here, there], heads([first, here]) == [here]
(True, True)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meshlab.errors import NotFound, RemoteDamaged
from meshlab.remote.image import Block, Image, ImageKey, StoredFile, block_key, images_prefix, parse_image_key
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


def heads(keys: Iterable[ImageKey]) -> list[ImageKey]:
    """The images that no other of them names as its parent, by number."""
    known = sorted(keys)
    followed = {key.parent for key in known}
    return [key for key in known if key.short not in followed]


def list_images(bucket: PatientBucket, uid: str = "") -> dict[str, list[ImageKey]]:
    """The keys of all images, by user and number.  What stands there under other names is none."""
    found: dict[str, list[ImageKey]] = {}
    for one in bucket.list(images_prefix(uid)):
        key = parse_image_key(one.key)
        if key is not None:
            found.setdefault(key.uid, []).append(key)
    return {uid: sorted(keys) for uid, keys in found.items()}


def get_image(bucket: PatientBucket, key: ImageKey) -> Image:
    """An image that is listed.  Raises ``RemoteDamaged`` when it is not what its key says, or cannot be got."""
    return unpack_image(key, get_listed(bucket, str(key)))


def get_listed(bucket: PatientBucket, key: str) -> bytes:
    """An object that must be there."""
    try:
        return bucket.get(key)
    except NotFound as error:
        raise RemoteDamaged(f"{error.message}, although it is listed or named") from None


def true_heads(bucket: PatientBucket, keys: Sequence[ImageKey], known: Head | None = None) -> list[Head]:
    """The heads of a user, read, but for those that another head has followed besides its parent.

    ``known`` need not be read again.
    """
    found = [
        known if known is not None and known.key == key else Head(key, get_image(bucket, key)) for key in heads(keys)
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
