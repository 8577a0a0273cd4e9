"""An image: what a user's directory consisted of at one push, and where its bytes stand in the bucket.

The bytes of an image are ``MESHIMAG``, the version of the format (one byte) and a
MessagePack map.  Its key ends in their SHA-256, so an image that was changed is none.

>>> key = ImageKey("ann", 7, "0" * 16, "ab" * 4, "cd" * 32)
>>> str(key)[:43], parse_image_key(str(key)) == key
('images/ann/00000007-0000000000000000-ababab', True)
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec

from meshlab.errors import RemoteDamaged
from meshlab.snapshot.manifest import HISTORY, LAYERS, RETAIN_DAYS, Accepted, Range
from meshlab.wal.chain import LONG_AGO, Cursor
from meshlab.wal.frame import NO_SUM
from meshlab.wal.paths import SNAPSHOT, segment_day

MAGIC, VERSION = b"MESHIMAG", 1
BLOCK = 8 << 20
"""Bytes of one object at most: what a request carries, and what is held in memory for it."""

NO_PARENT = "0" * 16
IMAGES, DATA, MARKS = "images", "data", "remote"
_LINK = re.compile(rf"{IMAGES}/([^/]+)/link-([0-9a-f]{{16}})-([0-9a-f]{{16}})", re.ASCII)
_KEY = re.compile(rf"{IMAGES}/([^/]+)/(\d{{8,}})-([0-9a-f]{{16}})-([0-9a-f]{{8}})-([0-9a-f]{{64}})", re.ASCII)


class ImageKey(NamedTuple):
    """The name of an image: its user and number, the one it follows (16 digits), who pushed it, its SHA-256."""

    uid: str
    number: int
    parent: str
    machine: str
    digest: str

    def __str__(self) -> str:
        return f"{images_prefix(self.uid)}{self.number:08d}-{self.parent}-{self.machine}-{self.digest}"

    @property
    def short(self) -> str:
        """What later images call it, and people too."""
        return self.digest[:16]


class Block(NamedTuple):
    """Bytes ``start`` to ``stop`` of a file, and their SHA-256."""

    start: int
    stop: int
    digest: bytes

    @property
    def nbytes(self) -> int:
        """How many they are."""
        return self.stop - self.start


class StoredFile(NamedTuple):
    """A file of a user: its name, the name its blocks stand under, and the blocks, without gaps.

    ``ending`` is the MD5 of the last 4 KiB of a segment, as in a folded range.
    """

    name: str
    home: str
    blocks: list[Block]
    ending: bytes = b""

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def day(self) -> str | None:
        """The day of a segment, None of other files."""
        return segment_day(self.name)

    def as_range(self) -> Range:
        """A segment as a range that ``check_range`` compares with a file."""
        return Range(self.day or "", 0, self.nbytes, self.ending, 0, LONG_AGO)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What one push left in the bucket.

    ``number``         one above those of the images it follows
    ``parents``        SHA-256 of the images it follows and of all they followed besides the first: heads no more
    ``looked_at``      when the ends of the log were noted, by the clock of the machine (µs)
    ``seq, sum, effective``  the last frame in it, and the largest effective time (µs)
    ``generation``     of the snapshot in force, -1 without one; ``snapshot`` is its SHA-256
    ``state_hash``     of that snapshot
    ``accepted``       damage that somebody has accepted when it was pushed
    """

    uid: str
    machine: str
    number: int = 1
    parents: list[str] = []
    looked_at: int = 0
    tool: str = ""
    files: list[StoredFile] = []
    seq: int = 0
    sum: bytes = NO_SUM
    effective: int = LONG_AGO
    generation: int = -1
    snapshot: str = ""
    state_hash: str = ""
    records: int = 0
    retain_days: int = RETAIN_DAYS
    accepted: list[Accepted] = []

    @property
    def segments(self) -> dict[str, StoredFile]:
        """The segments by their day, oldest first."""
        return {day: file for file in sorted(self.files) if (day := file.day)}

    @property
    def by_name(self) -> dict[str, StoredFile]:
        """All files by their name."""
        return {file.name: file for file in self.files}

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)

    @property
    def end(self) -> Cursor:
        """Where the log stands."""
        return Cursor(self.seq, self.sum, self.effective)

    def blocks(self) -> dict[str, Block]:
        """Every block it needs, by key."""
        return {block_key(self.uid, file.home, block): block for file in self.files for block in file.blocks}


# Keys


def images_prefix(uid: str = "") -> str:
    """Where the images of a user stand, or of all."""
    return f"{IMAGES}/{uid}/" if uid else f"{IMAGES}/"


def data_prefix(uid: str) -> str:
    """Where the blocks of a user stand."""
    return f"{DATA}/{uid}/"


def block_key(uid: str, home: str, block: Block) -> str:
    """Where a block stands.

    >>> block_key("ann", "wal-20250707.log", Block(0, 5, bytes(32)))[:35]
    'data/ann/wal-20250707.log/0-5-00000'
    """
    return f"{data_prefix(uid)}{home}/{block.start}-{block.stop}-{block.digest.hex()}"


def parse_image_key(key: str) -> ImageKey | None:
    """The parts of a key, None when it is not that of an image."""
    match = _KEY.fullmatch(key)
    return ImageKey(match[1], int(match[2]), *match.groups()[2:]) if match else None


def link_key(uid: str, follower: str, followed: str) -> str:
    """Where it stands that an image follows another, those between being gone; both by 16 digits."""
    return f"{images_prefix(uid)}link-{follower}-{followed}"


def parse_link_key(key: str) -> tuple[str, str, str] | None:
    """User, follower and followed of such a key, None when it is none.

    >>> parse_link_key(link_key("ann", "0" * 16, "1" * 16))
    ('ann', '0000000000000000', '1111111111111111')
    """
    match = _LINK.fullmatch(key)
    return (match[1], match[2], match[3]) if match else None


def home_of(name: str, generation: int) -> str:
    """The name the blocks of a file stand under: a snapshot keeps its own when it goes into ``history/``.

    >>> home_of("snapshot.bin", 7), home_of("wal-20250707.log", 7)
    ('history/00000007.bin', 'wal-20250707.log')
    """
    return f"{HISTORY}/{max(generation, 0):08d}.bin" if name == SNAPSHOT else name


def is_layer(name: str) -> bool:
    """Whether a file is a layer, which its name has the SHA-256 of."""
    return name.startswith(f"{LAYERS}/")


def layer_digest(name: str) -> str:
    """The SHA-256 in the name of a layer."""
    return Path(name).stem


# Bytes


def pack(image: Image) -> bytes:
    """The bytes of an image."""
    body: bytes = msgpack.packb(msgspec.to_builtins(image, builtin_types=(bytes,)))
    return MAGIC + bytes([VERSION]) + body


def key_of(image: Image, data: bytes) -> ImageKey:
    """The key of an image whose bytes are ``data``."""
    parent = image.parents[0][:16] if image.parents else NO_PARENT
    return ImageKey(image.uid, image.number, parent, image.machine, hashlib.sha256(data).hexdigest())


def unpack(key: ImageKey, data: bytes) -> Image:
    """The image in the bytes of an object.  Raises ``RemoteDamaged`` when they are not those of its key."""
    if hashlib.sha256(data).hexdigest() != key.digest:
        raise RemoteDamaged(f"{key}: expected {len(data)} bytes of that SHA-256, found others: they were changed")
    head = len(MAGIC) + 1
    if data[: head - 1] != MAGIC or data[head - 1] > VERSION:
        raise RemoteDamaged(f"{key}: expected an image of version {VERSION} or older, found {data[:head]!r}")
    try:
        found: Any = msgspec.convert(msgpack.unpackb(data[head:]), Image, builtin_types=(bytes,))
    except (msgspec.MsgspecError, msgpack.UnpackException, ValueError) as error:
        raise RemoteDamaged(f"{key}: cannot be read: {error}") from None
    assert isinstance(found, Image)
    if (found.uid, found.number) != (key.uid, key.number):
        raise RemoteDamaged(f"{key}: holds image {found.number} of {found.uid!r}")
    return found
